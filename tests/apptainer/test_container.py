"""What a real Apptainer makes of our command lines and signatures. `detect` stands for all images."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.errors import ImageError
from ghosttrack.orchestrate.container import bind_option, binds, images_of, is_restricted_root
from tests.apptainer.conftest import Image
from tests.fake_project import FakeProject
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
    assert len(images_of(profile, ["detect"]).digests["detect"]) == 64
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ImageError, match="does not bear a good signature"):
        images_of(profile, ["detect"])


def test_a_stage_cannot_touch_what_others_have_published(
    image: Callable[[str], Image], finished: FakeProject
) -> None:
    file, root = image("detect").file, finished.root.resolve()
    one, two = ((root / f".store/current/small/layers/layer_{layer}").resolve() for layer in (1, 2))
    modes = binds(finished.request(), "layers", ["layer_1"])
    options = [part for path, mode in modes.items() for part in bind_option(path, mode)]
    (root / ".store/source/kept").touch()

    def touch(path: Path) -> "subprocess.CompletedProcess[str]":
        namespace = ["--userns"] if is_restricted_root() else []
        return subprocess.run(
            ["apptainer", "--silent", "exec", *namespace, "--containall", "--no-home", *options, file, "touch", path],
            capture_output=True, text=True,
        )  # fmt: skip

    for path in (
        root / ".store/source/kept", root / ".store/sink/new", root / "data/new", root / "new", two / "new",
        root / ".store/current/small/source/new", root / ".store/claims/small/sink/new", root / ".store/verified/source/new",
        root / "runs/small/new", root / "runs/small/logs/new",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        done = touch(path)
        assert done.returncode != 0, path
        assert "Read-only file system" in done.stderr
    for path in (
        root / ".store/staging",
        root / ".store/layers",
        one,
        root / "models/checkpoints/small",
    ):
        path.mkdir(parents=True, exist_ok=True)
        done = touch(path / "new")
        assert done.returncode == 0, done.stderr


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
