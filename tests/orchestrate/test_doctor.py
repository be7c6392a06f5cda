"""What the doctor finds, and the mend that it says."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.load import load_config
from ghosttrack.common.errors import ConfigError
from ghosttrack.orchestrate import doctor
from ghosttrack.orchestrate.doctor import Diagnosis, examine, raise_for
from ghosttrack.orchestrate.machine import Machine, machine_of
from ghosttrack.orchestrate.request import Request
from tests.commands import ghosttrack
from tests.fake_project import FakeProject
from tests.tiny_gguf import save_tiny_gguf


def levels(found: list[Diagnosis]) -> dict[str, str]:
    return {diagnosis.what: diagnosis.level for diagnosis in found}


def test_a_healthy_machine_is_found_healthy(project: FakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sources", lambda *_: iter(()))  # a fake project has no prepare stage
    found = list(examine(project.request(), "local", contained=False))
    assert levels(found) == {"disk": "ok", "file system": "ok", "clock": "ok"}
    raise_for(found)
    assert not list(project.root.glob(".doctor-*"))


def test_a_disk_that_is_too_small_is_trouble_with_the_way_out() -> None:
    request = Request.of("gpt2-medium")
    plan = replace(request.plan(), free=int(50e9))
    [found] = list(doctor.disk(plan))[:1]
    assert found.level == "trouble"
    assert "186 GB to come, 50 GB free" in found.seen
    assert "extract.layers_per_wave=" in found.mend
    plan = replace(request.plan(), free=int(200e9))
    assert next(doctor.disk(plan)).level == "warning"
    plan = replace(request.plan(), free=int(900e9))
    assert next(doctor.disk(plan)).level == "ok"


def test_a_cache_is_complete_when_weights_are_there_and_nothing_is_half_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub/models--me--mine"
    snapshot = model / "snapshots/abc"
    assert not doctor.is_cached("models", "me/mine")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    assert not doctor.is_cached("models", "me/mine")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1")
    assert not doctor.is_cached("models", "me/mine")  # a link to nothing
    (model / "blobs").mkdir()
    (model / "blobs/1").touch()
    assert doctor.is_cached("models", "me/mine")
    (model / "blobs/2.incomplete").touch()
    assert not doctor.is_cached("models", "me/mine")


def test_a_root_that_cannot_be_written_is_trouble(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    [found] = doctor.file_system(file / "root")
    assert found.level == "trouble"
    assert "another root with --set paths.root=" in found.mend


def test_a_file_system_without_links_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    found = {d.what: d for d in doctor.file_system(tmp_path)}
    assert found["file system"].level == "trouble"
    assert "has no hard and symbolic links" in found["file system"].seen


def test_a_clock_that_is_off_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = doctor.time.time
    monkeypatch.setattr(doctor.time, "time", lambda: now() - 3600)
    found = {d.what: d for d in doctor.file_system(tmp_path)}
    assert found["clock"].level == "warning"
    assert "+3600 s off" in found["clock"].seen


@pytest.mark.parametrize(("offline", "level"), [("1", "trouble"), ("", "warning")])
def test_what_is_not_in_the_hub_s_cache_must_be_fetched_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: str, level: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    snapshot = tmp_path / "hub/datasets--Salesforce--wikitext/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "data.parquet").touch()
    request = Request.of("gpt2-medium", [f"paths.root={tmp_path}"])
    found = {d.what: d for d in doctor.sources(request, request.plan())}
    assert found["data.corpus"].level == "ok"
    assert found["model.base_model"].level == found["data.questions"].level == level
    assert "stages.prepare" in found["model.base_model"].mend


def test_what_is_local_needs_no_network(tmp_path: Path) -> None:
    request = Request.of("demo", [f"paths.root={tmp_path}"], stub=True)
    [found] = doctor.sources(request, request.plan())
    assert found.level == "ok"


def test_no_sbatch_and_no_apptainer_are_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [found] = [
        d for d in doctor.cluster(ClusterProfile(), ["extract", "track"], tmp_path) if d.level != "warning"
    ]
    assert (found.level, found.what) == ("trouble", "slurm: extract, track")
    assert [d.level for d in doctor.apptainer()] == ["trouble"]


def test_a_missing_image_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "track.sif").write_bytes(b"an image")
    found = list(doctor.images(ClusterProfile(images=str(tmp_path)), ["track", "detect"]))
    assert levels(found) == {"image of track": "ok", "image of detect": "trouble"}
    assert "make images STAGES=detect" in found[1].mend + found[1].seen


def test_the_command_prints_all_and_ends_with_one_line_about_the_trouble(tmp_path: Path) -> None:
    done = ghosttrack(
        "doctor", "demo", "--stub", "--executor", "local", "--container", "apptainer", "--set", f"paths.root={tmp_path}",
        code=10, cwd=Path(__file__).parents[2], env={**os.environ, "PATH": str(tmp_path)},
    )  # fmt: skip
    assert "trouble  apptainer: there is none on this machine" in done.stdout
    assert "ok       file system" in done.stdout
    assert "things stand in the way, apptainer first" in done.stderr


def test_no_trouble_is_no_error() -> None:
    raise_for([Diagnosis("ok", "a", "b"), Diagnosis("warning", "a", "b", "c")])
    with pytest.raises(ConfigError, match="1 things"):
        raise_for([Diagnosis("trouble", "a", "b", "c")])


def test_a_model_that_could_not_be_read_is_trouble_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_gguf(tmp_path / "odd.gguf", "mystery")
    settings = [f"paths.root={tmp_path}", f"model.base_model={tmp_path}/odd.gguf", "model.n_layers=3", "model.d_model=32", "model.layers=0-1"]  # fmt: skip
    request = Request.of("demo", settings)
    [found] = doctor.model(request, request.plan())
    assert (found.level, found.what) == ("trouble", "model.base_model")
    assert "mystery is not supported" in found.seen
    assert "give the folder with the model's config.json" in found.mend


@pytest.mark.parametrize(
    ("last", "told"),
    [("kill -KILL $$", "prepare model was ended by SIGKILL; .* out of memory: free some, then give the same command again"),
     ("exit 3", "prepare model ended with exit code 3, without a reason"),
     ("echo 'prepare: error: it is odd; mend it' >&2; exit 3", "it is odd; mend it")],
)  # fmt: skip
def test_how_a_look_of_prepare_ended_is_told(
    last: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{last}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ConfigError, match=f"^{told}$"):
        doctor.ask_prepare("model", "somewhere")


def test_a_file_that_a_word_hides_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("demo", [], environ={})
    assert not list(doctor.words(config))
    (tmp_path / "factbook").write_text("mine")
    assert [(found.level, found.what) for found in doctor.words(config)] == [
        ("warning", "data.questions"), ("warning", "data.corpus"),
    ]  # fmt: skip
    assert not list(
        doctor.words(load_config("demo", ["data.questions=./factbook", "data.corpus=./factbook"], environ={}))
    )


@pytest.mark.parametrize(
    ("settings", "machine", "level", "said"),
    [
        ({}, Machine(1e9, False), "ok", "take 40 MB as float32, and memory has 1 GB"),
        ({}, Machine(5e7, False), "warning", "model.offload=disk, or --set model.dtype=bfloat16"),
        ({"offload": "disk"}, Machine(5e7, False), "warning", "spread over disk (model.offload: disk), which is slow"),
        ({}, Machine(4e7, True), "ok", "take 20 MB as bfloat16, and a GPU has 40 MB"),
        ({"dtype": "bfloat16"}, Machine(2e7, True), "warning", "spread over all GPUs of the job (model.devices: auto)"),
        ({"devices": "one", "dtype": "bfloat16"}, Machine(2e7, True), "warning", "--set model.offload=disk"),
        ({"devices": "one", "offload": "memory"}, Machine(2e7, True), "warning", "spread over memory (model.offload: memory)"),
    ],
)  # fmt: skip
def test_a_model_that_has_no_room_is_told_with_what_becomes_of_it(
    settings: dict[str, str], machine: Machine, level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "machine_of", lambda _: machine)
    monkeypatch.setattr(doctor, "weights_and_vocabulary", lambda _: (10_000_000, 1000))
    config = load_config("gpt2-small", [f"model.{key}={value}" for key, value in settings.items()])
    [found] = doctor.room(config, ClusterProfile())
    assert found.level == level
    assert said in f"{found.seen}; {found.mend}"


@pytest.mark.parametrize(
    ("profile", "cards", "machine"),
    [
        ({"resources": {"default": {"gpus": 1, "memory": "480G"}}}, [], Machine(None, True)),
        (
            {"resources": {"default": {"gpus": 1, "memory": "480G", "gpu_memory": "40G"}}},
            [],
            Machine(40 * 2**30, True),
        ),
        (
            {"resources": {"default": {"gpus": 1, "memory": "480G", "gpu_memory": "40G"}}},
            [8e9],
            Machine(8e9, True),
        ),
        ({"resources": {"default": {"gpus": 1}}, "executor": "slurm"}, [8e9], Machine(None, True)),
        ({"resources": {"default": {"memory": "8G"}}, "executor": "slurm"}, [8e9], Machine(8 * 2**30, False)),
        ({}, [8e9], Machine(8e9, True)),
    ],
)
def test_memory_of_a_node_is_not_that_of_its_gpus(
    profile: dict[str, Any], cards: list[float], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"memory.free": [[card / 2**20] for card in cards]}
    monkeypatch.setattr("ghosttrack.orchestrate.machine.ask_gpus", asked.get)
    assert machine_of(ClusterProfile.model_validate(profile)) == machine


def test_gpus_of_unknown_memory_are_told_and_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "machine_of", lambda _: Machine(None, True))
    monkeypatch.setattr(doctor, "weights_and_vocabulary", lambda _: (10_000_000, 1000))
    [found] = doctor.room(load_config("gpt2-small", []), ClusterProfile())
    assert (found.level, "is not known here" in found.seen) == ("ok", True)
