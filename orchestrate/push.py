"""`ghosttrack push`: a run's SAEs and detector as a model of the Hugging Face hub, its answers as a data set, each with a card.

The SAEs lie as SAELens looks for them in a repository (`SAE.from_pretrained("owner/name", "layer_5")`). `huggingface_hub` does
the talking: its `HF_TOKEN` and `HF_ENDPOINT` count here, too.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.engine.storage import Store, storage_errors
from ghosttrack.common.errors import ConfigError, StorageError
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.detector import DETECTOR, DETECTOR_ARRAYS
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.saes import SAE
from ghosttrack.orchestrate.disk import folder_size
from ghosttrack.orchestrate.options import ghosttrack, takes_config
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.saes import metadata_of, published_sae, write

CARD = "README.md"
ROWS = "data/answers.jsonl"
COLUMNS = ("id", "relation", "question", "answer", "gold", "label", "score", "interval", "split")


@ghosttrack.command()
@takes_config
@click.argument("repository", metavar="OWNER/NAME")
@click.option(
    "--answers", metavar="OWNER/NAME", help="Push the answers with their scores as a data set, too."
)
@click.option("--private", is_flag=True, help="Let only the owner see what is made.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the folders here instead, for a look; pushes nothing.",
)
def push(request: Request, repository: str, answers: str | None, private: bool, output: Path | None) -> None:
    """Push CONFIG's SAEs and detector to the Hugging Face hub as the model OWNER/NAME, with a card."""
    terminal, plan = Terminal(), request.plan()
    if output and output.exists() and any(output.iterdir()):
        raise StorageError(f"{output} is there already; name another --output")
    names = {"model": repository, **({"dataset": answers} if answers else {})}
    with atomic.folder(output) if output else tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        folders = {"model": place / "model", "dataset": place / "answers"}
        with storage_errors(output or place):
            write_model(request, plan, repository, folders["model"])
            if answers:
                write_answers(request, plan, repository, folders["dataset"])
        for kind, name in names.items():
            size, folder = format_bytes(folder_size(folders[kind])), folders[kind].name
            address = output / folder if output else upload(folders[kind], kind, name, private)
            terminal.line(f"{address}: {size}")


def write_model(request: Request, plan: Plan, repository: str, folder: Path) -> None:
    """SAEs, detector, report and card. Raises MissingInputError for what there is not yet."""
    for layer in request.config.layers:
        published = published_sae(request, plan.unit_that_writes(SAE.of(layer).name))
        write(published, folder / f"layer_{layer}", layer, request.config)
    for name in (DETECTOR.name, DETECTOR_ARRAYS.name, REPORT.name):
        file = _published(plan, name)
        with whole(file, f"`ghosttrack run {request.name}` makes it again"):  # it may go while it is copied
            shutil.copyfile(file, folder / name)
    report = REPORT.read(folder / REPORT.name)
    (folder / CARD).write_text(_model_card(request, report, repository), encoding="utf-8")


def write_answers(request: Request, plan: Plan, repository: str, folder: Path) -> None:
    """A row a question: what was asked, said and right, and how likely the answer is wrong."""
    scores = SCORES.read(_published(plan, SCORES.name))
    (folder / ROWS).parent.mkdir(parents=True)
    with (folder / ROWS).open("w", encoding="utf-8", newline="\n") as file:
        for record in scores["questions"]:
            row = {column: record.get(column) for column in COLUMNS}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    text = _card(
        {"configs": [{"config_name": "default", "data_files": [{"split": "all", "path": ROWS}]}],
         "tags": ["hallucination-detection"]},
        f"# Answers of {metadata_of(request.config)['model_name']}, with how likely each is wrong",
        f"{len(scores['questions'])} questions of GhostTrack's run `{request.config.name}`. `label` is 1 where the answer is wrong, "
        "`score` how likely it is wrong by a detector that had not seen the question, with its 95 % `interval`; `split` says in "
        f"which part of the evaluation. SAEs and detector: [{repository}](https://huggingface.co/{repository}).",
        dataset=True,
    )  # fmt: skip
    (folder / CARD).write_text(text, encoding="utf-8")


def upload(folder: Path, kind: str, name: str, private: bool) -> str:
    """The address of what was pushed. Raises ConfigError for a name or token that the hub refuses, or a hub out of reach."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="ghosttrack")
    try:
        address = api.create_repo(name, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, repo_type=kind, folder_path=folder, commit_message="Pushed by ghosttrack"
        )
    except Exception as error:  # httpx, huggingface_hub and the file system each have their own
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{name} was not pushed: {text}; check the name and that this machine reaches the hub, and log in with `hf auth login` or HF_TOKEN"
        ) from error
    return str(address)


def _published(plan: Plan, name: str) -> Path:
    return Store(plan.config.paths.root).file(plan.result_of(name), name)


def _model_card(request: Request, report: Mapping[str, Any], repository: str) -> str:
    config, layers = request.config, request.config.layers
    made_of = metadata_of(config)
    source = config.model.base_model
    facts: dict[str, Any] = {
        "library_name": "saelens",
        "tags": ["sparse-autoencoder", "interpretability", "hallucination-detection", "ghosttrack"],
    }
    if source.count("/") == 1 and ":" not in source and not Path(source).exists():
        facts["base_model"] = source
    return _card(
        facts,
        f"# SAEs and hallucination detector of {made_of['model_name']}",
        f"JumpReLU sparse autoencoders of the residual stream after the blocks {layers[0]} to {layers[-1]} "
        f"({config.sae.d_hidden} latents each, text: {made_of['dataset_path']}), and a detector of wrong answers. Made by "
        f"GhostTrack's run `{config.name}`.",
        "```python\nfrom sae_lens import SAE\n"
        f'sae = SAE.from_pretrained("{repository}", "layer_{layers[0]}")\n```',
        f"`{DETECTOR.name}` and `{DETECTOR_ARRAYS.name}` are the detector, `{REPORT.name}` has every figure with its interval.",
        f"## What it reaches\n\n{report['headline']['detector']}\n\n{report['headline']['tracking']}",
    )  # fmt: skip


def _card(facts: Mapping[str, Any], *parts: str, dataset: bool = False) -> str:
    from huggingface_hub import DatasetCardData, ModelCardData

    head = DatasetCardData(**facts) if dataset else ModelCardData(**facts)
    return f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"
