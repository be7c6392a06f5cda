"""What a manifest says about the container image that the work was done in."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghosttrack.common.engine import image


@pytest.fixture(autouse=True)
def _outside_any_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for variable in ("APPTAINER_CONTAINER", "GHOSTTRACK_IMAGE", "GHOSTTRACK_IMAGE_SHA256"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(image, "FACTS_FILE", tmp_path / "image.json")
    image.facts.cache_clear()
    image.container_image.cache_clear()
    yield
    image.facts.cache_clear()
    image.container_image.cache_clear()


def test_a_bare_run_has_no_image() -> None:
    assert image.container_image() is None
    assert image.facts() == {}


def test_the_digest_is_that_of_the_file_that_apptainer_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sif = tmp_path / "track.sif"
    sif.write_bytes(b"an image")
    monkeypatch.setenv("APPTAINER_CONTAINER", str(sif))
    found = image.container_image()
    assert found is not None
    assert found["sha256"] == hashlib.sha256(b"an image").hexdigest()
    assert found["name"] == sif.name


def test_the_digest_that_the_scheduler_checked_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/not/visible/inside/track.sif")
    monkeypatch.setenv("GHOSTTRACK_IMAGE_SHA256", "ab" * 32)
    found = image.container_image()
    assert found is not None
    assert found["sha256"] == "ab" * 32


def test_an_image_that_cannot_be_seen_is_known_by_what_it_was_built_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "image.json").write_text(json.dumps({"inputs": "cd" * 32}))
    monkeypatch.setenv("APPTAINER_CONTAINER", "/not/visible/inside/track.sif")
    found = image.container_image()
    assert found is not None
    assert "sha256" not in found
    assert found["inputsSha256"] == "cd" * 32


def test_what_an_image_was_built_from_is_read_from_its_label(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "apptainer"
    labels = {"data": {"attributes": {"labels": {image.INPUTS_LABEL: "ef" * 32}}}}
    program.write_text(
        f"#!/bin/sh\n[ \"$3\" = '{tmp_path}/track.sif' ] || exit 1\necho '{json.dumps(labels)}'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert image.inputs_of(tmp_path / "track.sif") == ""
    for name in ("track.sif", "other.sif"):
        (tmp_path / name).write_bytes(b"an image")
    assert image.inputs_of(tmp_path / "track.sif") == "ef" * 32
    assert image.inputs_of(tmp_path / "other.sif") == ""
