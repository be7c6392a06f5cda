"""Several processes of one stage, started for real by accelerate's launcher."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ghosttrack.common.engine.launch import launch_options, threads_per_process
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import ConfigError

CODE = Path(__file__).parents[3]
CONTRACT = """
    stage: crowd
    phase: 0
    version: 1
    summary: Writes who did what.
    gpu: false
    ranks: {ranks}
    units:
      - name: base
        parameters: [seed]
        folder: models/{{name}}
        writes: [base.txt]
      - name: "layer_{{layer}}"
        together: sae_training.layers_together
        reads: {{crowd/base: [base.txt]}}
        parameters: [seed]
        folder: models/{{name}}
        writes: ["layer_{{layer}}.txt"]
      - name: after
        reads: {{"crowd/layer_{{layers}}": ["layer_{{layers}}.txt"]}}
        parameters: [seed]
        folder: models/{{name}}
        writes: [after.txt]
"""
UNITS = ["base", "layer_0", "layer_1", "layer_2", "after"]
MAIN = """
    from ghosttrack.common.engine.stage import main

    main(__file__)
"""
RUN = """
    import os, time
    from pathlib import Path
    from ghosttrack.common.errors import NumericError

    def run(job):
        root = Path(job.config.paths.root)
        name = f"{job.unit}.txt"

        def piece(number):
            if (root / f"trouble-{os.environ['RANK']}").exists():
                raise NumericError("one of us cannot go on")
            with (root / "calls.txt").open("a") as file:
                file.write(f"{job.unit} {number} {os.environ['RANK']}\\n")
            job.scratch(str(number)).write_text(f"{job.unit} {number}\\n")
            while (root / "hold").exists():
                time.sleep(0.05)

        job.once("reserve", lambda: job.scratch("reserved").touch())
        assert job.scratch("reserved").exists()
        for number in range(6):
            if number % job.ranks == job.rank:
                job.step(str(number), lambda: piece(number))
        job.barrier()
        if job.rank == 0:
            job.output(name).write_text("".join(job.scratch(str(n)).read_text() for n in range(6)))
        return {"ranks": job.ranks}

    def run_together(jobs):
        root = Path(jobs[0].config.paths.root)
        with (root / "groups.txt").open("a") as file:
            file.write(f"{os.environ['RANK']} {' '.join(job.unit for job in jobs)}\\n")
        while len({line[0] for line in (root / "groups.txt").open()}) < int(os.environ.get("WORLD_SIZE", 1)):
            time.sleep(0.05)  # so that no rank takes all
        return [{**run(job), "beside": len(jobs)} for job in jobs]
"""


class Crowd:
    """A stage whose processes note what each of them does."""

    def __init__(self, folder: Path, config: Path, ranks: str) -> None:
        home = folder / "code" / "stages" / "crowd"
        home.mkdir(parents=True)
        for name, text in {
            "__init__.py": "", "contract.yaml": CONTRACT.format(ranks=ranks), "__main__.py": MAIN, "run.py": RUN,
        }.items():  # fmt: skip
            (home / name).write_text(textwrap.dedent(text))
        (home.parent / "__init__.py").touch()
        self.root, self.config = folder / "root", config
        self.root.mkdir()
        self.environment = {
            **os.environ, "PYTHONPATH": f"{folder / 'code'}:{CODE / 'src'}", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def run(self, processes: int, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "stages.crowd", "--config", str(self.config), *arguments]
        command += ["--processes", str(processes)] if processes > 1 else []
        variables = {**self.environment, **({"RANK": "0"} if processes == 1 else {}), **environment}
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=self.root)

    def calls(self) -> list[list[str]]:
        """Unit, piece and rank of each piece of work, sorted."""
        file = self.root / "calls.txt"
        return sorted(line.split() for line in file.read_text().splitlines()) if file.exists() else []

    def output(self, unit: str) -> str:
        return (self.root / "models/small" / f"{unit}.txt").read_text()


@pytest.fixture
def crowd(request: pytest.FixtureRequest, tmp_path: Path) -> Crowd:
    from tests.conftest import write_small_config

    return Crowd(tmp_path, write_small_config(tmp_path), request.param)


shared = pytest.mark.parametrize("crowd", ["shared"], indirect=True)
apart = pytest.mark.parametrize("crowd", ["apart"], indirect=True)


@pytest.mark.slow
@shared
def test_ranks_share_a_unit_and_the_result_is_one_process_s(crowd: Crowd) -> None:
    done = crowd.run(2)
    assert done.returncode == 0, done.stderr
    calls = crowd.calls()
    assert len(calls) == 5 * 6
    assert {(number, rank) for _, number, rank in calls} == {(str(n), str(n % 2)) for n in range(6)}
    together = {unit: crowd.output(unit) for unit in UNITS}
    entry = Store(str(crowd.root)).current("small", "crowd", "base")
    assert entry
    assert entry.manifest.predicate.resource_usage["processes"] == 2
    assert done.stderr.count("crowd/base (1 of 5): starts") == 1
    (crowd.root / ".store").rename(crowd.root / "gone")
    assert crowd.run(1).returncode == 0
    assert {unit: crowd.output(unit) for unit in together} == together
    again = crowd.run(2)
    assert again.returncode == 0
    assert "up to date" in again.stderr
    assert len(crowd.calls()) == 2 * 5 * 6


@pytest.mark.slow
@apart
def test_ranks_take_layers_of_their_own_after_the_base(crowd: Crowd) -> None:
    done = crowd.run(2)
    assert done.returncode == 0, done.stderr
    calls = crowd.calls()
    assert len(calls) == 5 * 6  # nothing twice
    by_unit = {unit: {rank for each, _, rank in calls if each == unit} for unit, _, _ in calls}
    assert by_unit["base"] == by_unit["after"] == {"0"}
    assert all(len(ranks) == 1 for ranks in by_unit.values())
    assert {rank for ranks in by_unit.values() for rank in ranks} == {"0", "1"}


@pytest.mark.slow
@apart
def test_layers_are_done_side_by_side_so_many_at_a_time(crowd: Crowd) -> None:
    two = ("--set", "sae_training.layers_together=2")
    assert crowd.run(1, *two).returncode == 0
    groups = (crowd.root / "groups.txt").read_text().splitlines()
    assert groups == ["0 layer_0 layer_1", "0 layer_2"]
    together = {unit: crowd.output(unit) for unit in UNITS}
    entry = Store(str(crowd.root)).current("small", "crowd", "layer_1")
    assert entry
    assert entry.manifest.predicate.metrics["beside"] == 2
    assert not crowd.run(1).stderr.count("starts"), "how many stand side by side is not in the key"
    (crowd.root / ".store").rename(crowd.root / "gone")
    assert crowd.run(1).returncode == 0
    assert {unit: crowd.output(unit) for unit in UNITS} == together


@pytest.mark.slow
@apart
def test_there_are_as_many_groups_as_processes(crowd: Crowd) -> None:
    done = crowd.run(2, "--set", "sae_training.layers_together=3")
    assert done.returncode == 0, done.stderr
    groups = [line.split() for line in (crowd.root / "groups.txt").read_text().splitlines()]
    assert {rank for rank, *_ in groups} == {"0", "1"}
    assert sorted(unit for _, *units in groups for unit in units) == UNITS[1:4]
    assert sorted(len(units) for _, *units in groups) == [1, 2]
    assert len(crowd.calls()) == 5 * 6


@pytest.mark.slow
@apart
def test_what_fails_side_by_side_publishes_none_and_says_so_of_all(crowd: Crowd) -> None:
    (crowd.root / "trouble-0").touch()
    together = ("--set", "sae_training.layers_together=3")
    assert crowd.run(1, "--unit", "base", *together).returncode != 0
    (crowd.root / "trouble-0").unlink()
    assert crowd.run(1, "--unit", "base", *together).returncode == 0
    (crowd.root / "trouble-0").touch()
    assert crowd.run(1, *together).returncode == 19
    assert not (crowd.root / "models/small/layer_0.txt").exists()
    (crowd.root / "trouble-0").unlink()
    assert crowd.run(1, *together).returncode == 0
    assert len(crowd.calls()) == 5 * 6


@pytest.mark.slow
@shared
def test_a_rank_that_fails_ends_the_others_with_its_own_code(crowd: Crowd) -> None:
    (crowd.root / "trouble-1").touch()
    done = crowd.run(2)
    assert done.returncode == 19
    assert "one of us cannot go on" in done.stderr
    assert "ChildFailedError" not in done.stderr
    assert not (crowd.root / "models").exists()
    (crowd.root / "trouble-1").unlink()
    assert crowd.run(2).returncode == 0
    assert len({(unit, number) for unit, number, _ in crowd.calls()}) == 5 * 6


@pytest.mark.slow
@shared
def test_a_stop_file_ends_all_ranks_resumably(crowd: Crowd, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    done = crowd.run(2, GHOSTTRACK_STOP_FILE=str(stop))
    assert done.returncode == 75
    assert "goes on from here" in done.stderr
    assert crowd.calls() == []


@pytest.mark.slow
@shared
def test_a_killed_launcher_leaves_no_rank_behind(crowd: Crowd) -> None:
    hold = crowd.root / "hold"
    hold.touch()
    command = [sys.executable, "-m", "stages.crowd", "--config", str(crowd.config), "--processes", "2"]
    running = subprocess.Popen(command, env=crowd.environment, cwd=crowd.root, stderr=subprocess.DEVNULL)
    while not crowd.calls():
        assert running.poll() is None
        time.sleep(0.02)
    claims = list((crowd.root / ".store/claims").rglob("*.json"))
    holders = [json.loads(claim.read_bytes())["pid"] for claim in claims]
    assert holders
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=120) != 0
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() for pid in holders):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"still there: {holders}")
    hold.unlink()
    assert crowd.run(2).returncode == 0


def test_options_of_one_machine_take_a_free_port() -> None:
    options = launch_options(4)
    assert options[options.index("--num_processes") + 1] == "4"
    assert options[options.index("--main_process_port") + 1] == "0"
    assert options[options.index("--config_file") + 1].endswith("config/accelerate.yaml")


def test_options_of_several_machines_take_their_number_from_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    options = launch_options(4, machines=2, main_process="node1:29501")
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    assert pairs["--num_processes"] == "8"
    assert pairs["--machine_rank"] == "1"
    assert (pairs["--main_process_ip"], pairs["--main_process_port"]) == ("node1", "29501")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        launch_options(4, machines=2, main_process="node1")
    monkeypatch.delenv("SLURM_PROCID")
    with pytest.raises(ConfigError, match="srun"):
        launch_options(4, machines=2, main_process="node1:29501")


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_process(2) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads_per_process(2) == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_per_process(10_000) == 1
