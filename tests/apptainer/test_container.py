"""What a real Apptainer makes of our command lines and signatures. `detect` stands for all images."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import ImageError
from ghosttrack.orchestrate.container import bind_option, binds, images_of, is_restricted_root
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from tests.apptainer.conftest import Image
from tests.faults import pipeline as small
from tests.faults.test_claims import check_one_writer
from tests.pipeline import Pipeline

pytestmark = pytest.mark.apptainer


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key."""
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True
    )
    return private, public


def test_signed_images_pass_and_unsigned_or_changed_ones_do_not(
    image: Callable[[str], Image], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    copy = tmp_path / "detect.sif"
    shutil.copy(image("detect").file, copy)
    profile = ClusterProfile(images=str(tmp_path), public_key=str(public))
    with pytest.raises(ImageError, match="does not bear a good signature"):
        images_of(profile, ["detect"])
    subprocess.run(["apptainer", "sign", "--key", private, copy], check=True, capture_output=True)
    assert len(images_of(profile, ["detect"])["detect"].sha256) == 64
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ImageError, match="does not bear a good signature"):
        images_of(profile, ["detect"])


def test_a_run_in_containers_publishes_the_same_from_a_store_that_they_cannot_write(
    image: Callable[[str], Image], stub_run: Pipeline, tmp_path: Path
) -> None:
    """Detection of a stub run made anew; then what of the root can be written in a container that is bound alike."""
    file, root = image("detect").file, tmp_path / "root"
    shutil.copytree(stub_run.root, root, symlinks=True)
    published = stub_run.store.current("demo-stub", "detect", "all")
    assert published
    for unit in (root / ".store/current/demo-stub/detect").iterdir():
        shutil.rmtree(unit.resolve())
        unit.unlink()
    request = Request.of("demo", [f"paths.root={root}"], stub=True)
    request = replace(request, profile=ClusterProfile(images=str(file.parent)), contained=True)
    images = images_of(request.profile, ["detect"])
    LocalExecutor(Terminal(), images).run_stage(request, "detect", [])
    store = Store(str(root))
    entry = store.current("demo-stub", "detect", "all")
    assert entry
    store.verify(entry, deep=True)
    assert set(entry.manifest.files) == set(published.manifest.files)
    assert entry.manifest.predicate.container_image
    assert not list(store.at_work())
    modes = binds(request, "detect")
    options = [part for path, mode in modes.items() for part in bind_option(path, mode)]
    namespace = ["--userns"] if is_restricted_root() else []
    places = ["", ".store", ".store/staging/demo-stub/detect", ".store/detect", ".store/current/demo-stub/detect", ".store/claims",
              ".store/verified/detect", ".store/openings", "runs/demo-stub/logs", "results/demo-stub/detection"]  # fmt: skip
    for place in places:
        done = subprocess.run(
            ["apptainer", "--silent", "exec", *namespace, "--containall", "--no-home", *options, file, "touch", root / place / "new"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert "Read-only file system" in done.stderr, place


def test_two_containers_on_a_host_do_not_write_one_unit(
    image: Callable[[str], Image], tmp_path: Path
) -> None:
    """Nor do `clean` and `gc` beside them take for dead the one that writes."""
    pipeline = small.Pipeline(tmp_path)
    assert pipeline.both() == 0
    namespace = ["--userns"] if is_restricted_root() else []
    check_one_writer(
        pipeline, "apptainer", "--silent", "exec", *namespace, "--containall", "--no-home",
        "--bind", str(pipeline.root), image("detect").file, "python3",
    )  # fmt: skip


def test_an_image_tests_itself_alone_and_on_a_stub_run(
    image: Callable[[str], Image], stub_run: Pipeline, tmp_path: Path
) -> None:
    alone = image("detect").apptainer("test")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "stub: the missing input is named" in alone.stdout
    root = tmp_path / "root"
    shutil.copytree(stub_run.root, root, symlinks=True)
    shutil.rmtree(root / ".store/detect")
    shutil.rmtree(root / ".store/current/demo-stub/detect")
    at_work = image("detect").apptainer("test", "--bind", str(root), "--env", f"GHOSTTRACK_ROOT={root}")
    assert at_work.returncode == 0, at_work.stdout + at_work.stderr
    assert "stub: done" in at_work.stdout
    assert (root / "results/demo-stub/detection/detection_metrics.json").exists()
