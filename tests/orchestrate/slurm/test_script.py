"""Rendered job scripts, compared with golden files; GHOSTTRACK_WRITE_GOLDEN=1 writes these anew, to be read in the diff."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.common.config.cluster import ClusterProfile, Resources
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.errors import ImageError
from ghosttrack.orchestrate.chain import Link, Task
from ghosttrack.orchestrate.plan import PlannedUnit
from ghosttrack.orchestrate.slurm.script import (
    PASSED_ON,
    Setting,
    render,
    render_medic,
    render_whole,
    resources_of,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", "USER": "me", "PATH": "/usr/bin:/bin"}.items():
        monkeypatch.setenv(name, value)


def setting(profile: ClusterProfile | None = None, processes: int = 1, contained: bool = False) -> Setting:
    front = ["apptainer", "run", "--cleanenv", "--containall"] if contained else ["python", "-m"]
    more = ["--processes", str(processes)] if processes > 1 else []
    return Setting(
        name="gpt2-medium",
        folder=Path("/scratch/me/runs/gpt2-medium"),
        working_folder=Path("/home/me/ghosttrack"),
        profile=profile or ClusterProfile(),
        commands={
            stage: [
                *front,
                f"stages/{stage}.sif" if contained else f"ghosttrack.stages.{stage}",
                "--config",
                "gpt2-medium",
                *more,
            ]
            for stage in ("prepare", "extract", "sae_train", "track")
        },
        release_command=["python", "-m", "ghosttrack.orchestrate", "gc", "gpt2-medium", "--yes"],
        shares_work={"prepare": False, "extract": True, "sae_train": True, "track": False},
        images={stage: (Path(f"stages/{stage}.sif"), 64 * "0") for stage in ("extract", "track")}
        if contained
        else {},
    )


def planned(stage: str, name: str) -> PlannedUnit:
    unit = Unit(
        config_name="gpt2-medium", stage=stage, version=1, name=name, layer=None, reads=[], parameters={},
        folder="data", writes=["*"],
    )  # fmt: skip
    return PlannedUnit(unit, None, None, False, 60.0, 1.0)


def link(
    name: str,
    units: dict[int | None, Sequence[tuple[str, str]]],
    throttle: int | None = None,
    release: bool = False,
) -> Link:
    tasks = []
    for index, names in units.items():
        members = [planned(*each) for each in names]
        tasks.append(Task(index, members, members[:1] if release else []))
    return Link(name, tasks, throttle, {})


def check(name: str, script: str) -> None:
    file = GOLDEN / f"{name}.sbatch"
    if os.environ.get("GHOSTTRACK_WRITE_GOLDEN") == "1":
        file.write_text(script)
    assert script == file.read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def rendered(where: Setting, which: Link) -> str:
    return render(where, which, resources_of(where.profile, which))


def test_one_process() -> None:
    check(
        "one_process",
        rendered(setting(), link("prepare", {None: [("prepare", "model"), ("prepare", "corpus")]})),
    )


def test_a_sparse_array() -> None:
    array = link("sae_train", {index: [("sae_train", f"layer_{index}")] for index in (0, 1, 2, 7)})
    profile = ClusterProfile.model_validate({
        "modules": ["cuda/12.1"], "setup": ["ulimit -n 4096"], "environment": {"NCCL_DEBUG": "WARN"},
        "slurm": {"account": "lab", "partition": "gpu", "qos": "long", "throttle": 2, "options": ["--exclude=n7"]},
        "resources": {"sae_train": {"cpus": 16, "memory": "120G", "time": "1-12:00:00", "gpus": 1}},
    })  # fmt: skip
    check("sparse_array", rendered(setting(profile), array))


def test_four_gpus_on_one_node() -> None:
    profile = ClusterProfile(resources={"extract": Resources(cpus=64, memory="480G", gpus=4)})
    where = setting(profile, processes=4)
    check("four_gpus", rendered(where, link("extract", {None: [("extract", "layers_0-23")]})))


def test_two_nodes() -> None:
    profile = ClusterProfile(resources={"extract": Resources(cpus=64, memory="480G", gpus=4, nodes=2)})
    where = setting(profile, processes=4)
    check("two_nodes", rendered(where, link("extract", {None: [("extract", "layers_0-23")]})))


def test_waves_on_a_bounded_disk() -> None:
    waves: dict[int | None, Sequence[tuple[str, str]]] = {
        number: [
            ("extract", f"layers_{first}-{first + 1}"),
            *(("sae_train", f"layer_{first + i}") for i in (0, 1)),
        ]
        for number, first in enumerate((0, 2, 4))
    }
    check("bounded_waves", rendered(setting(), link("layers", waves, throttle=2, release=True)))


def test_in_containers() -> None:
    profile = ClusterProfile(resources={"extract": Resources(gpus=1, nodes=2)})
    where = setting(profile, contained=True)
    script = rendered(where, link("extract", {None: [("extract", "layers_0-23")]}))
    check("two_nodes_contained", script)
    check("contained", rendered(setting(contained=True), link("track", {None: [("track", "all")]})))


def test_the_whole_in_one_job_and_the_medic() -> None:
    check(
        "whole",
        render_whole(
            setting(), ["python", "-m", "ghosttrack.orchestrate", "run", "gpt2-medium"], Resources()
        ),
    )
    check(
        "medic",
        render_medic(setting(), ["python", "-m", "ghosttrack.orchestrate.slurm.retry", "gpt2-medium"]),
    )


def test_an_image_that_was_changed_since_submission_does_not_run(tmp_path: Path) -> None:
    image = tmp_path / "track.sif"
    image.write_bytes(b"as it was")
    digest = hashlib.sha256(b"as it was").hexdigest()
    where = replace(
        setting(), folder=tmp_path, images={"track": (image, digest)},
        commands={"track": ["touch", str(tmp_path / "ran"), str(image)]},
    )  # fmt: skip
    script = rendered(where, link("track", {None: [("track", "all")]})).replace("track --unit all", "track")

    def run() -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "17"}
        return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)

    image.write_bytes(b"tampered")
    done = run()
    assert done.returncode == ImageError.exit_code
    assert f"{image} is missing or was changed" in done.stderr
    assert not (tmp_path / "ran").exists()
    image.write_bytes(b"as it was")
    assert run().returncode == 0
    assert (tmp_path / "ran").exists()


def test_what_the_scheduler_ends_leaves_a_note_that_says_so(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "jobs/ended/17.json"
    command = ["sh", "-c", f"touch {begun}; exec sleep 60"]
    where = replace(setting(), folder=tmp_path, commands={"track": command})
    script = rendered(where, link("track", {None: [("track", "all")]})).replace("track --unit all", "track")
    ended.parent.mkdir(parents=True)
    ended.write_text("an earlier start's")
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "17"}
    running = subprocess.Popen(["bash", "-c", script], env=environment, start_new_session=True)
    while not begun.exists():
        time.sleep(0.01)
    assert not ended.exists()
    running.terminate()
    assert running.wait(timeout=120) == 143
    assert json.loads(ended.read_text())["exitCode"] == 143
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def test_names_are_quoted() -> None:
    where = setting(ClusterProfile(environment={"GREETING": "it's $HOME; rm x"}))
    script = rendered(where, link("prepare", {None: [("prepare", "model")]}))
    assert """export GREETING='it'"'"'s $HOME; rm x'""" in script
