"""Temporary results: released when nothing needs them, made again when something does, never more than the disk holds."""

import shutil
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import BusyError
from ghosttrack.orchestrate.gc import releasable, release, remove, rubbish
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from tests.fake_project import CONTRACTS, FakeProject
from tests.faults.injection import run as killed

STATES = """
    stage: states
    phase: 1
    version: 1
    summary: Writes large files of a wave of layers.
    gpu: false
    units:
      - name: "layers_{group}"
        temporary: true
        reads: {source/all: [number.txt]}
        parameters: []
        folder: data/cache/{name}/states
        writes: ["states_{member}.txt"]
"""
TRAINED = """
    stage: trained
    phase: 2
    version: 1
    summary: Makes something small of each layer.
    gpu: false
    units:
      - name: "layer_{layer}"
        reads: {"states/layers_{group}": ["states_{layer}.txt"]}
        parameters: [sae.d_hidden]
        folder: models/checkpoints/{name}
        writes: ["trained_{layer}.txt"]
"""
RUN = """
    from pathlib import Path

    def run(job):
        root = Path(job.config.paths.root)
        with (root / "calls.txt").open("a") as file:
            file.write(job.work.label + "\\n")
        there = len(list((root / "data/cache/small/states").glob("states_*.txt")))
        with (root / "there.txt").open("a") as file:
            file.write(f"{there}\\n")
        for name in job.work.writes:
            job.output(name).write_text(job.unit)
        return {}
"""


@pytest.fixture
def waves(tmp_path: Path, write_config: Callable[..., Path]) -> FakeProject:
    """Three layers in waves of one; what reads states is made from them."""
    file = write_config(extract={"layers_per_wave": 1})
    project = FakeProject(
        tmp_path, file, {"source": CONTRACTS["source"], "states": STATES, "trained": TRAINED}
    )
    for stage in ("states", "trained"):
        (project.stages / stage / "run.py").write_text(textwrap.dedent(RUN))
    return project


def run(request: Request) -> None:
    LocalExecutor(Terminal()).submit(request, request.plan())


def store_of(project: FakeProject) -> Store:
    return Store(str(project.root))


def unit_of(request: Request, label: str) -> Unit:
    return next(planned.unit for planned in request.plan().units if planned.unit.label == label)


def test_states_that_another_configuration_is_working_on_are_left(waves: FakeProject) -> None:
    request = waves.request()
    run(request)
    store, plan = Store(str(waves.root)), request.plan()
    labels = [planned.unit.label for planned in releasable(plan)]
    shutil.copytree(
        store.layout.folder / "current/small", store.layout.folder / "current/other", symlinks=True
    )
    unit = plan.units[-1].unit.model_copy(update={"config_name": "other"})
    with store.claim(unit):
        assert release(store, plan, labels) == 0
    assert release(store, plan, labels) > 0


def test_states_that_are_there_count_as_room(waves: FakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    request = waves.request()
    run(request)
    shutil.rmtree((waves.root / ".store/current/small/states/layers_2").resolve())
    plan = request.plan()
    [wave] = [planned for planned in plan.stale if planned.unit.temporary]
    lasting = sum(planned.size for planned in plan.stale) - wave.size
    small = replace(plan, waves=replace(plan.waves, wave=10.0, total=30.0))  # two layers' are there, 16 bytes
    assert small.size == lasting + min(wave.size, 30 - 2 * len("layers_0"))
    assert replace(small, free=int(lasting) + 15).refusal is None
    assert replace(small, free=int(lasting) + 13).refusal


def test_states_are_kept_until_all_that_reads_them_is_made(waves: FakeProject) -> None:
    request = waves.request()
    assert releasable(request.plan()) == []
    run(request)
    plan = request.plan()
    assert [p.unit.label for p in releasable(plan)] == [
        "states/layers_0",
        "states/layers_1",
        "states/layers_2",
    ]
    freed = release(store_of(waves), plan, ["states/layers_0"])
    assert freed == len("layers_0")
    assert request.plan().stale == []
    assert [p.unit.label for p in releasable(request.plan())] == ["states/layers_1", "states/layers_2"]


def test_states_that_a_killed_gc_has_left_are_found_again(waves: FakeProject) -> None:
    request = waves.request()
    run(request)
    states = waves.root / ".store/current/small/states/layers_1"

    def collect() -> int:
        return release(store_of(waves), request.plan(), ["states/layers_1"]) and 0

    marked = next(
        at
        for at in range(100)
        if killed(collect, waves.root, at).code == -9 and (states / "released.json").exists()
    )
    assert marked
    assert [p.unit.label for p in releasable(request.plan())][1] == "states/layers_1"
    assert release(store_of(waves), request.plan(), ["states/layers_1"]) == len("layers_1")
    assert "states/layers_1" not in [p.unit.label for p in releasable(request.plan())]


def test_what_a_damaged_result_was_made_from_is_kept(waves: FakeProject) -> None:
    request = waves.request()
    run(request)
    plan = request.plan()
    file = (waves.root / "models/checkpoints/small/trained_1.txt").resolve()
    file.chmod(0o644)
    file.write_text("damaged!")
    assert release(store_of(waves), plan, ["states/layers_1"]) == 0
    assert (waves.root / "data/cache/small/states/states_1.txt").exists()


def test_released_states_are_made_again_when_something_needs_them(waves: FakeProject) -> None:
    request = waves.request()
    run(request)
    release(store_of(waves), request.plan(), ["states/layers_0", "states/layers_1", "states/layers_2"])
    waves.calls()
    changed = waves.request("sae.d_hidden=16")
    reasons = {planned.unit.label: str(planned.reason) for planned in changed.plan().stale}
    assert reasons["states/layers_1"] == "released:trained/layer_1"
    assert reasons["trained/layer_1"].startswith("param:sae.d_hidden")
    run(changed)
    assert len(waves.calls()) == 6
    assert changed.plan().stale == []


def test_on_a_bounded_disk_only_so_many_waves_are_there_at_a_time(waves: FakeProject, tmp_path: Path) -> None:
    free = waves.request()
    wave = free.plan().waves
    bounded = waves.request(f"extract.max_disk_gb={(wave.sample + 1.5 * wave.wave) / 1e9}")
    assert bounded.plan().waves_at_a_time == 1
    run(bounded)
    seen = [int(line) for line in (waves.root / "there.txt").read_text().split()]
    assert max(seen) == 1
    assert not list((waves.root / "data/cache/small/states").glob("states_*.txt"))
    assert bounded.plan().stale == []


def test_rubbish_is_abandoned_work_and_damage_that_was_set_aside(waves: FakeProject) -> None:
    request = waves.request()
    run(request)
    store = store_of(waves)
    unit = unit_of(request, "trained/layer_0")
    abandoned = store.staging(unit, "0" * 64)
    (abandoned / "out/part").write_text("half")
    aside = store.layout.folder / "trained/abc.corrupt-1"
    aside.mkdir()
    found = rubbish(store, request.plan())
    assert {item.path for item in found} == {abandoned, aside}
    with store.claim(unit):  # somebody works on it
        assert {item.path for item in rubbish(store, request.plan())} == {aside}
        assert [remove(store, item) for item in found if item.unit] == [0]
    assert abandoned.exists()
    for item in found:
        assert remove(store, item) >= 0
    assert rubbish(store, request.plan()) == []
    with pytest.raises(BusyError), store.claim(unit), store.claim(unit):
        pass
