"""Plans, reasons and verdicts over the fake stages, without running anything."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import GPT2Config

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import STAGES_FOLDER, Contract, Unit, expand, load_contracts
from ghosttrack.common.engine.costs import READ_RATE, costs_of
from ghosttrack.common.engine.fingerprint import content_of
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import BusyError, ConfigError, GhostTrackError
from ghosttrack.orchestrate import estimate
from ghosttrack.orchestrate.chain import chain_of
from ghosttrack.orchestrate.clean import clean
from ghosttrack.orchestrate.estimate import Estimator, measure_rate, undisturbed
from ghosttrack.orchestrate.plan import Plan, fold, make_plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.status import stage_statuses
from ghosttrack.orchestrate.verify import verify_units
from ghosttrack.orchestrate.why import choose, explain
from ghosttrack.stages.sae_train import costs as sae_costs
from tests.fake_project import FakeProject


def lines(plan: Plan) -> list[str]:
    return [f"{group.stage} {group.names} {group.state}" for group in fold(plan)]


def units_of(project: FakeProject) -> list:  # type: ignore[type-arg]
    request = project.request()
    return [unit for contract in request.contracts for unit in expand(contract, request.config)]


def damage(project: FakeProject, name: str, text: str = "broken") -> Path:
    file = (project.root / name).resolve()
    file.chmod(0o644)
    file.write_text(text)
    return file


# ---- plan


def test_layers_of_the_same_state_share_a_line(project: FakeProject) -> None:
    assert lines(project.request().plan()) == [
        "source all missing", "layers base missing", "layers layer_0-2 missing", "sink all missing",
    ]  # fmt: skip


def test_a_layer_of_another_state_has_its_own_line(finished: FakeProject) -> None:
    (finished.root / "models/checkpoints/small/layer_1.txt").unlink()
    plan = finished.request().plan()
    assert lines(plan) == [
        "source all up to date",
        "layers base up to date",
        "layers layer_0,2 up to date",
        "layers layer_1 missing:a public name (kept from an earlier run)",
        "sink all input:layers/layer_1 (kept from an earlier run)",
    ]
    assert [planned.unit.label for planned in plan.stale] == ["layers/layer_1", "sink/all"]


def test_reasons_that_differ_in_the_layer_only_are_folded(finished: FakeProject) -> None:
    damage(finished, "models/checkpoints/small/base.txt")
    assert "layers layer_0-2 input:layers/base" in lines(finished.request().plan())


def test_a_finished_project_has_nothing_to_do(finished: FakeProject) -> None:
    plan = finished.request().plan()
    assert plan.stale == []
    assert (plan.seconds, plan.size) == (0, 0)


def test_a_plan_changes_nothing(finished: FakeProject) -> None:
    finished.request().plan()  # the files are copies, so that they are hashed and that is remembered
    before = {path: path.lstat().st_mtime_ns for path in finished.root.rglob("*")}
    finished.request("sae.d_hidden=16").plan()
    assert {path: path.lstat().st_mtime_ns for path in finished.root.rglob("*")} == before


def test_a_plan_as_json(finished: FakeProject) -> None:
    data = json.loads(json.dumps(finished.request("tracking.top_k_features=7").plan().to_json()))
    assert data["staleUnits"] == 1
    assert data["units"][-1]["reason"] == "param:tracking.top_k_features 50→7"
    assert data["units"][0]["reason"] is None
    assert data["freeBytes"] > 0


def test_a_plan_that_does_not_fit_the_disk_says_so(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.request().plan().refusal is None
    monkeypatch.setattr("ghosttrack.orchestrate.plan.free_bytes", lambda folder: 1000)
    assert "1 kB free" in str(project.request().plan().refusal)


def test_what_lasts_alone_does_not_fit_and_no_smaller_states_are_proposed(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = project.request().plan()
    units = [replace(planned, size=400.0) for planned in plan.units]
    assert not units[-1].unit.temporary
    states = replace(units[0], unit=units[0].unit.model_copy(update={"temporary": True}))
    full = str(replace(plan, units=[states, *units[1:]], free=300).refusal)
    assert "the results take" in full
    assert "max_tokens" not in full


@pytest.mark.parametrize(("days", "gpus", "told"), [(1, 0, False), (30, 0, True), (30, 1, False)])
def test_weeks_on_a_cpu_are_remarked(project: FakeProject, days: int, gpus: int, told: bool) -> None:
    plan = project.request().plan()
    units = [replace(planned, seconds=days * 86400 / len(plan.units), gpus=gpus) for planned in plan.units]
    console = Console(file=io.StringIO())
    Terminal(console).plan(replace(plan, units=units))
    assert ("30 days" in console.file.getvalue()) is told  # type: ignore[attr-defined]


def test_planning_thirty_layers_is_quick() -> None:
    config, contracts = load_config("demo", environ={}), load_contracts()

    def seconds() -> float:
        start = time.process_time()
        make_plan(config, contracts)
        return time.process_time() - start

    # 0.1 s and the 50 ms of the measured rate, on an idle machine
    assert min(seconds() for _ in range(3)) < 0.5


# ---- estimates


def predicted(contracts: list[Contract], label: str, *overrides: str) -> estimate.Estimate:
    config = load_config("gpt2-medium", overrides, environ={})
    units = {unit.label: unit for contract in contracts for unit in expand(contract, config)}
    return Estimator(config, {}).predict(units[label])


def test_the_bytes_of_hidden_states_are_exact() -> None:
    contracts = load_contracts()
    tokens = 9_600_000
    whole = ("extract.layers_per_wave=null", "extract.dtype=float16")
    assert predicted(contracts, "extract/layers_0-23", *whole)[1] == (24 * 1024 * 2 + 14) * tokens
    six = ("extract.layers_per_wave=6", "extract.dtype=int8")
    assert predicted(contracts, "extract/layers_6-11", *six)[1] == (6 * (1024 + 4) + 14) * tokens
    assert predicted(contracts, "extract/sample", *six)[1] == (24 * 1028 + 14) * 218 * 512  # whole rows
    assert predicted(contracts, "sae_train/layer_3")[1] == 4 * (2 * 1024 * 5120 + 2 * 5120 + 1024)


def flops(config: Config) -> Callable[[Unit], float]:
    """The arithmetic of a unit by its stage's formula."""
    quantities = Estimator(config, {}).now

    def flop(unit: Unit) -> float:
        cost = costs_of(STAGES_FOLDER / unit.stage).cost(quantities, unit)
        assert cost
        return cost.flop

    return flop


@pytest.mark.parametrize("name", ["demo", "gpt2-medium"])
def test_every_unit_of_every_stage_has_a_cost(name: str, tmp_path: Path) -> None:
    for more in ([], ["sae.independent_twin=true"], ["data.asked=questions.jsonl"]):
        config = load_config(name, more, environ={})
        units = [unit for contract in load_contracts() for unit in expand(contract, config)]
        estimator = Estimator(config, {})
        assert [unit.label for unit in units if not estimator.predict(unit, 1e12).known] == []


def test_arithmetic_of_training_is_a_dense_product_and_the_active_latents() -> None:
    config = load_config("gpt2-medium", ["sae.independent_twin=true"], environ={})
    units = {u.label: u for c in load_contracts() for u in expand(c, config)}
    flop = flops(config)
    a_sample, tokens = 1024 * (2 * 5120 + 600 * 64), 9_600_000 * 0.9
    assert flop(units["sae_train/layer_0"]) == pytest.approx(a_sample * tokens * 20)
    # A twin sees as many tokens of its layer as the base and the layer's SAE together.
    base = flop(units["sae_train/base"]) / 24
    assert flop(units["sae_train/independent_0"]) == pytest.approx(a_sample * tokens * 20 + base)


def test_quality_is_half_a_pass_for_each_loss_of_each_layer_and_a_page_a_layer() -> None:
    config = load_config("gpt2-medium", environ={})
    unit = next(u for c in load_contracts() for u in expand(c, config) if u.label == "sae_train/quality")
    losses = 3 * 4096 * (12 * 24 * 1024**2 + 2 * 50_000 * 1024)
    slower = sae_costs.EFFICIENCY / sae_costs.SPLICE_EFFICIENCY
    assert flops(config)(unit) == pytest.approx(24 * (slower * losses + 4 * 1024 * 5120**2))
    assert Estimator(config, {}).size(unit) == pytest.approx(4e6)


@pytest.mark.parametrize(("limit", "waits_for"), [(1000, "sae_train"), (200, "layers")])
def test_quality_waits_for_the_saes_of_every_wave(tmp_path: Path, limit: int, waits_for: str) -> None:
    changes = [f"paths.root={tmp_path}", f"extract.max_disk_gb={limit}"]
    plan = make_plan(load_config("gpt2-medium", changes, environ={}), load_contracts())
    links = {link.name: link for link in chain_of(plan)}
    assert links["quality"].after == {"prepare": "afterok", waits_for: "afterok"}
    assert not links["quality"].is_array
    assert links["evaluate"].after["quality"] == "afterok"
    assert "quality" not in links["track"].after
    states = {planned.unit.label for planned in plan.units if planned.unit.temporary}
    [quality] = [planned.unit for planned in plan.units if planned.unit.label == "sae_train/quality"]
    assert not states & {read.name for read in quality.reads}, "waves are released without it"


def test_questions_are_counted_where_they_are_known(tmp_path: Path) -> None:
    rows = tmp_path / "sechzig Fragen.JSONL"
    rows.write_text('{"question": "Wer?", "answer": "Er"}\n' * 60)
    own = [f"data.questions={rows}", "data.max_questions=null"]

    def questions(*changes: str, made: dict[str, Any] | None = None) -> int:
        predicate = SimpleNamespace(metrics={"questions": 9044})
        entry = SimpleNamespace(manifest=SimpleNamespace(predicate=predicate), parameters=made)
        entries: Any = {} if made is None else {"prepare/questions": entry}
        return Estimator(load_config("smollm2-135m", changes, environ={}), entries).now.questions

    assert questions(*own) == 60
    assert questions(own[0], "data.max_questions=20") == 20
    assert questions(f"data.questions={tmp_path / 'gone.jsonl'}") == 5000
    assert questions() == 9000
    assert questions(made={"data.questions": "factbook", "data.max_questions": None}) == 9044
    assert questions(*own, made={"data.questions": content_of(str(rows)), "data.max_questions": None}) == 9044
    assert questions("data.max_questions=100", made={"data.max_questions": None}) == 100


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ({}, 600), ({"cpuSec": 900.0}, 600), ({"cpuSec": 60.0}, 61), ({"cpuSec": 60.0, "gpuPeakBytes": 1e9}, 600),
    ],
)  # fmt: skip
def test_what_is_measured_is_what_will_be_without_what_other_programs_took(
    tmp_path: Path, usage: dict[str, float], seconds: float
) -> None:
    """And a local model, which is on record by its content, is as large as it was."""
    GPT2Config(vocab_size=300_000, n_embd=576, n_head=9, n_layer=30).save_pretrained(tmp_path / "model")
    config = load_config("demo", [f"model.base_model={tmp_path / 'model'}"], environ={})
    units = {unit.label: unit for contract in load_contracts() for unit in expand(contract, config)}
    unit = units["track/answers"]
    predicate = SimpleNamespace(metrics={})
    entry: Any = SimpleNamespace(
        manifest=SimpleNamespace(predicate=predicate), parameters=unit.parameters | units["prepare/model"].parameters,
        usage=usage, elapsed=600.0, size=READ_RATE,
    )  # fmt: skip
    assert "sha256:" in str(entry.parameters["model.base_model"])
    assert Estimator(config, {unit.label: entry}).predict(unit).seconds == pytest.approx(seconds)


def test_samples_are_answers_too() -> None:
    contracts = load_contracts()
    none, five = (predicted(contracts, "track/answers", f"detection.samples={n}").seconds for n in (0, 5))
    assert 1.2 < five / none < 6


def test_the_rate_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e8 < measure_rate(128, 0.005) < 1e14


def test_what_else_runs_on_the_machine_changes_little_of_the_rate() -> None:
    by_itself = measure_rate.__wrapped__(256)
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))
    ]
    try:
        time.sleep(0.3)
        beside = measure_rate.__wrapped__(256)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert beside > by_itself / 2


def test_an_earlier_run_is_scaled(finished: FakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError("there is nothing to measure")

    monkeypatch.setattr(estimate, "measure_rate", never)
    plan = finished.request("sae.d_hidden=16").plan()
    base = next(planned for planned in plan.stale if planned.unit.label == "layers/base")
    assert base.entry
    assert base.seconds == pytest.approx(undisturbed(base.entry))
    assert base.size == pytest.approx(base.entry.size)


# ---- why


def why(project: FakeProject, name: str, *overrides: str) -> list[str]:
    plan = project.request(*overrides).plan()
    return [line for planned in choose(plan, name) for line in explain(plan, planned)]


def test_why_follows_the_change_upstream(finished: FakeProject) -> None:
    assert why(finished, "sink/all", "sae.d_hidden=16") == [
        "sink/all must run: it reads layers/layer_0, which will run (input)",
        "  because layers/layer_0 must run: a parameter that matters to its result has changed: sae.d_hidden 8→16 (param)",
    ]  # fmt: skip
    assert why(finished, "layers/layer_1", "seed=3")[-1].endswith("seed 0→3 (param)")


def test_why_of_a_stage_is_of_all_its_units(finished: FakeProject) -> None:
    assert len(why(finished, "layers")) == 4
    assert "layers/base is up to date: finished" in why(finished, "layers")[0]


def test_why_names_the_damaged_file(finished: FakeProject) -> None:
    file = damage(finished, "results/small/sink/joined.json")
    (line,) = why(finished, "sink")
    assert "its published result is damaged" in line
    assert str(file) in line


def test_why_of_what_is_not_there_suggests(finished: FakeProject) -> None:
    with pytest.raises(ConfigError, match="did you mean 'layers/layer_1'"):
        why(finished, "layer/layer_1")


# ---- status


def test_status_counts_done_stale_and_failed(finished: FakeProject) -> None:
    request = finished.request("sae.d_hidden=16")
    store = Store(str(finished.root))
    layer = next(planned.unit for planned in request.plan().units if planned.unit.name == "layer_1")
    store.record_failure(layer, {"error": "NumericError: NaN", "finishedOn": "2999-01-01T00:00:00Z"})
    with store.claim(request.plan().units[1].unit):
        statuses = {status.stage: status for status in stage_statuses(store, request.plan())}
    assert (statuses["source"].done, statuses["source"].stale) == (1, 0)
    layers = statuses["layers"]
    assert (layers.units, layers.done, layers.stale, layers.failed) == (4, 0, 3, 1)
    assert layers.failures == ["layer_1: NumericError: NaN (2999-01-01T00:00:00Z)"]
    assert layers.running.startswith("base by process")
    assert layers.size > 0
    assert layers.last_finished


def test_an_old_failure_is_forgotten(finished: FakeProject) -> None:
    request = finished.request("sae.d_hidden=16")
    store = Store(str(finished.root))
    store.record_failure(request.plan().units[1].unit, {"error": "x", "finishedOn": "2000-01-01T00:00:00Z"})
    assert sum(status.failed for status in stage_statuses(store, request.plan())) == 0


# ---- verify


def test_verify_names_every_bad_file(finished: FakeProject) -> None:
    store = Store(str(finished.root))
    assert verify_units(store, units_of(finished), deep=True).findings == []
    bad = [damage(finished, f"models/checkpoints/small/layer_{i}.txt") for i in (0, 2)]
    gone = (finished.root / "data/cache/small/source/number.txt").resolve()
    gone.unlink()
    link = finished.root / "results/small/sink/joined.json"
    link.unlink()
    manifest = damage(finished, "models/checkpoints/small/base.manifest.json")
    verdict = verify_units(store, units_of(finished))
    text = "\n".join(verdict.findings)
    for path in [*bad, gone, link, manifest]:
        assert str(path) in text
    assert len(verdict.findings) == 5
    assert verdict.unpublished == []


def test_verify_knows_what_never_ran(project: FakeProject) -> None:
    assert len(verify_units(Store(str(project.root)), units_of(project)).unpublished) == 6


# ---- clean


def test_clean_removes_one_configuration_and_what_nobody_points_to(
    finished: FakeProject, write_config: object
) -> None:
    store = Store(str(finished.root))
    precious = finished.root / "results/small/sink/notes.txt"
    precious.write_text("mine")
    other = finished.root / ".store/current/other/source/all"
    other.parent.mkdir(parents=True)
    shared = (finished.root / ".store/current/small/source/all").resolve()
    other.symlink_to(Path("../../../source") / shared.name)
    removed = clean(store, finished.request().contracts, "small")
    assert removed.size > 0
    assert "models/checkpoints/small/layer_2.txt" in removed.names
    assert shared.is_dir(), "another configuration still points to it"
    assert not list((finished.root / ".store").glob("layers/*"))
    assert not (finished.root / "models").exists()
    assert precious.read_text() == "mine"
    assert clean(store, finished.request().contracts, "small").names == []


def test_clean_takes_links_of_layers_that_are_no_longer_studied(finished: FakeProject) -> None:
    request = finished.request("model.layers=0")
    clean(Store(str(finished.root)), request.contracts, "small")
    assert not (finished.root / "models").exists()


def test_clean_waits_for_nobody(finished: FakeProject) -> None:
    store = Store(str(finished.root))
    with store.claim(units_of(finished)[0]), pytest.raises(BusyError, match="is writing"):
        clean(store, finished.request().contracts, "small")
    assert (finished.root / "results/small/sink/joined.json").exists()


def test_errors_of_ours_have_distinct_codes() -> None:
    def kinds(kind: type[GhostTrackError]) -> list[type[GhostTrackError]]:
        return [each for sub in kind.__subclasses__() for each in [sub, *kinds(sub)]]

    codes = [kind.exit_code for kind in kinds(GhostTrackError) if "exit_code" in vars(kind)]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2, 130} & set(codes)
