"""Real images under a real Apptainer: built, described, run, and their results compared with bare runs.

`extract` stands for the images with torch, `detect` for the slim ones.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ghosttrack.common.engine.contract import STAGES_FOLDER, load_contract
from tests.apptainer.conftest import Image, build_image
from tests.pipeline import Pipeline

pytestmark = pytest.mark.apptainer
STAGES = ["detect", "extract"]
MOST_BYTES = {"detect": 250e6, "extract": 900e6}


def published(root: Path, stage: str) -> dict[str, tuple[str, str]]:
    """Sha256 of every file that a stage published, with its manifest's word for it: `unit/file` to both."""
    found = {}
    for unit in (root / ".store/current/demo-stub" / stage).iterdir():
        manifest = json.loads((unit / "manifest.json").read_text())
        for subject in manifest["subject"]:
            content = (unit / subject["name"]).read_bytes()
            name = f"{unit.name}/{subject['name']}"
            found[name] = (hashlib.sha256(content).hexdigest(), subject["digest"]["sha256"])
    return found


def without(root: Path, stage: str, copy: Path) -> Path:
    """A copy of a run in which a stage's results are missing."""
    shutil.copytree(root, copy, symlinks=True)
    shutil.rmtree(copy / ".store" / stage)
    shutil.rmtree(copy / ".store/current/demo-stub" / stage)
    return copy


@pytest.mark.parametrize("stage", STAGES)
def test_an_image_is_small_labelled_and_explains_itself(image: Callable[[str], Image], stage: str) -> None:
    built = image(stage)
    assert built.file.stat().st_size <= MOST_BYTES[stage]
    inspected = json.loads(built.apptainer("inspect", "--json").stdout)
    labels = inspected["data"]["attributes"]["labels"]
    assert labels["org.ghosttrack.stage"] == stage
    assert labels["org.ghosttrack.contractVersion"] == str(load_contract(STAGES_FOLDER / stage).version)
    assert len(labels["org.ghosttrack.lockfile.sha256"]) == 64
    assert f"Usage: python -m ghosttrack.stages.{stage}" in built("--help").stdout
    assert json.loads(built("describe", "--json").stdout)["stage"] == stage
    assert "reads" in built.apptainer("run-help").stdout


@pytest.mark.parametrize("stage", STAGES)
def test_an_image_that_is_up_to_date_is_not_built_again(image: Callable[[str], Image], stage: str) -> None:
    before = image(stage).file.stat()
    assert "up to date" in build_image(stage)
    after = image(stage).file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("stage", STAGES)
def test_an_image_gives_the_bytes_of_a_bare_run(
    image: Callable[[str], Image],
    stub_run: Pipeline,
    numeric_environment: tuple[str, ...],
    tmp_path: Path,
    stage: str,
) -> None:
    root = without(stub_run.root, stage, tmp_path / "root")
    built = image(stage)
    sha256 = hashlib.sha256(built.file.read_bytes()).hexdigest()
    options = ("--bind", f"{root}:/work", "--pwd", "/work", "--env", f"GHOSTTRACK_IMAGE_SHA256={sha256}")
    done = built("--config", "demo", "--stub", options=(*options, *numeric_environment))
    assert done.returncode == 0, done.stderr
    results = published(root, stage)
    assert results == published(stub_run.root, stage)
    assert all(content == recorded for content, recorded in results.values())
    for unit in (root / f".store/current/demo-stub/{stage}").iterdir():
        recorded = json.loads((unit / "manifest.json").read_text())["predicate"]["containerImage"]
        assert (recorded["sha256"], recorded["name"]) == (sha256, built.file.name)


def test_an_image_called_plainly_uses_its_own_code_and_records_its_own_digest(
    image: Callable[[str], Image], stub_run: Pipeline, tmp_path: Path
) -> None:
    built = image("detect")
    root = without(stub_run.root, "detect", tmp_path / "root")
    (root / "stages").mkdir()
    (root / "stages/__init__.py").write_text("raise SystemExit('code of the calling folder')")
    options = ("--bind", str(built.file.parent), "--bind", str(root))
    done = built.apptainer("run", *options, arguments=("--config", "demo", "--stub"), folder=root)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((root / ".store/current/demo-stub/detect/all/manifest.json").read_text())
    recorded = manifest["predicate"]["containerImage"]
    assert recorded["sha256"] == hashlib.sha256(built.file.read_bytes()).hexdigest()


def test_an_error_in_an_image_is_the_bare_error_with_its_exit_code(
    image: Callable[[str], Image], tmp_path: Path
) -> None:
    built = image("detect")
    options = ("--bind", f"{tmp_path}:/work", "--pwd", "/work")
    missing = built("--config", "demo", "--stub", options=options)
    assert missing.returncode not in (0, 255)
    assert "detect: error: " in missing.stderr
    assert "needs prepare/model" in missing.stderr
