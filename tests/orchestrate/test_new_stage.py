"""Another stage is a folder: planned, run, imaged and verified with no other file touched."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ghosttrack.common.engine.manifest import digest_line
from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.container import Image, container_command
from ghosttrack.orchestrate.estimate import START_SECONDS
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.verify import verify_units
from tests.apptainer.build_module import build
from tests.fake_project import FakeProject

CONTRACT = {
    "stage": "weigh",
    "phase": 3,
    "version": 1,
    "title": "Weights",
    "summary": "Weighs what the sink has joined.",
    "gpu": False,
    "torch": True,
    "units": [
        {
            "name": "all", "reads": {"sink/all": ["joined.json"]}, "parameters": ["seed"],
            "folder": "results/{name}/weigh", "writes": ["weights.json"],
        }
    ],
}  # fmt: skip
RUN = """
def run(job):
    job.output("weights.json").write_text(str(len(job.input("joined.json").read_text())))
    return {"n": 1}
"""
COSTS = """
from ghosttrack.common.engine.costs import Cost


def cost(quantities, unit):
    return Cost(seconds=120.0, size=7e6)
"""


@pytest.fixture
def weigh(finished: FakeProject) -> Path:
    """The folder of a fourth stage, beside those that have run."""
    folder = finished.stages / "weigh"
    shutil.copytree(finished.stages / "sink", folder)
    (folder / "contract.yaml").write_text(yaml.safe_dump(CONTRACT))
    (folder / "run.py").write_text(RUN)
    (folder / "costs.py").unlink()
    return folder


def shown(plan: Plan, capsys: pytest.CaptureFixture[str]) -> str:
    Terminal().plan(plan)
    return capsys.readouterr().out


def test_it_is_planned_run_and_verified(
    finished: FakeProject, weigh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = finished.request()
    plan = request.plan()
    assert [planned.unit.label for planned in plan.stale] == ["weigh/all"]
    LocalExecutor(Terminal()).submit(request, plan)
    assert request.plan().stale == []
    assert (finished.root / "results/small/weigh/weights.json").read_text().isdigit()
    units = [planned.unit for planned in plan.units]
    assert verify_units(Store(str(finished.root)), units, deep=True).findings == []


def test_a_unit_without_a_cost_is_unknown(
    finished: FakeProject, weigh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = finished.request().plan()
    line = next(line for line in shown(plan, capsys).splitlines() if line.startswith("weigh"))
    assert line.split()[-2:] == ["unknown", "unknown"]
    [entry] = [unit for unit in plan.to_json()["units"] if unit["stage"] == "weigh"]
    assert entry["predictedSeconds"] is None


def test_a_stage_tells_its_costs(
    finished: FakeProject, weigh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weigh / "costs.py").write_text(COSTS)
    [planned] = finished.request().plan().stale
    assert planned.known
    assert (planned.seconds, planned.size) == (120 + START_SECONDS, 7e6)


def test_its_image_is_rendered(finished: FakeProject, weigh: Path, tmp_path: Path) -> None:
    files = build.code_files("weigh", finished.stages)
    assert {"stages/weigh/run.py", "common/engine/runner.py", "entrypoint.sh"} <= set(files)
    assert not [name for name in files if name.startswith("stages/sink")]
    recipe = build.ImageBuilder().recipe(files, yaml.safe_load(files["stages/weigh/contract.yaml"]))
    assert recipe["kind"] == "torch"
    assert recipe["code"].keys() == files.keys()
    image = Image("weigh", tmp_path / "weigh.sif", "0" * 64)
    command = container_command(image, finished.request(), ["all"])
    assert command[command.index("--") + 1 :][:3] == ["apptainer", "--quiet", "run"]
    assert str(image.path) in command
    assert command[-2:] == ["--unit", "all"]


def test_other_code_is_told_and_with_strict_code_done_again(
    finished: FakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "code changed" not in shown(finished.request().plan(), capsys)
    run = finished.stages / "layers" / "run.py"
    run.write_text(run.read_text() + "\n# changed\n")
    plan = finished.request().plan()
    assert plan.stale == []
    assert {planned.unit.stage for planned in plan.units if planned.changed} == {"layers"}
    told = [line for line in shown(plan, capsys).splitlines() if "code changed since" in line]
    assert [line.split()[0] for line in told] == ["layers", "layers"]

    strict = replace(finished.request(), strict_code=True)
    reasons = {planned.unit.label: str(planned.reason) for planned in strict.plan().stale}
    assert reasons["layers/base"] == "code"
    assert reasons["sink/all"].startswith("input:layers/")
    LocalExecutor(Terminal()).submit(strict, strict.plan())
    assert set(finished.calls()) == {"layers/base", *(f"layers/layer_{layer}" for layer in range(3))}
    assert strict.plan().stale == []
    assert not any(planned.changed for planned in finished.request().plan().units)


def test_another_image_is_told_and_with_strict_code_done_again(
    finished: FakeProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = finished.request()
    planned = next(each for each in request.plan().units if each.unit.label == "sink/all")
    assert planned.entry is not None
    manifest = planned.entry.manifest
    manifest.predicate.container_image = {"name": "sink.sif", "inputsSha256": "a" * 64}
    folder = planned.entry.path
    folder.chmod(0o755)
    for name, content in (
        ("manifest.json", manifest.to_bytes()),
        ("manifest.json.sha256", digest_line(manifest.to_bytes()).encode()),
    ):
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(content)

    def built_from(inputs: str) -> None:
        monkeypatch.setattr("ghosttrack.orchestrate.request.inputs_of", lambda path: inputs)

    built_from("b" * 64)
    assert all(each.changed is None for each in request.plan().units)  # outside images they do not matter
    contained = replace(request, contained=True)
    assert contained.plan().stale == []
    [told] = [line for line in shown(contained.plan(), capsys).splitlines() if "image changed since" in line]
    assert told.startswith("sink")  # the others were not made in one
    strict = replace(contained, strict_code=True)
    assert [(each.unit.label, str(each.reason)) for each in strict.plan().stale] == [("sink/all", "image")]
    built_from("a" * 64)
    assert strict.plan().stale == []
    built_from("")
    assert strict.plan().stale == []
