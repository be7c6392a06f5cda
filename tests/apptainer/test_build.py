"""What goes into an image, without building one."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.apptainer.build_module import REPOSITORY, build

CONTAINERS = REPOSITORY / "containers"


def lines(name: str) -> set[str]:
    return {line for line in (CONTAINERS / name).read_text().splitlines() if not line.startswith("#")}


def test_the_slim_images_have_the_versions_of_the_lock_file_and_no_torch() -> None:
    slim = lines("slim.lock")
    assert slim <= lines("requirements.lock")
    assert not [line for line in slim if line.startswith(("torch", "transformers"))]


def test_pins_are_those_of_the_images_python() -> None:
    lock = "# a comment\na==1 ; python_full_version < '3.11'\na==2 ; python_full_version >= '3.11' --hash=sha256:1 --hash=sha256:2\nb==3 ; sys_platform == 'win32'\n"
    assert build.pinned(lock) == ["a==2 --hash=sha256:1 --hash=sha256:2"]


def test_an_image_holds_its_own_stage_and_no_other() -> None:
    names = set(build.code_files("detect"))
    assert {
        "stages/detect/contract.yaml",
        "stages/detect/run.py",
        "common/engine/stage.py",
        "entrypoint.sh",
    } <= names
    assert "config/model_configs/demo.yaml" in names
    assert {name.split("/")[1] for name in names if name.startswith("stages/")} == {"detect"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".sif")]


def test_every_package_but_torch_is_pinned_with_the_digests_of_its_files() -> None:
    for lock in sorted(CONTAINERS.glob("*.lock")):
        for line in lines(lock.name):
            assert ("--hash=sha256:" in line) == (lock.name != build.TORCH), line
    assert [line.split("==")[0] for line in lines(build.TORCH)] == ["torch"]
    assert not [line for line in lines("requirements.lock") if line.startswith("torch==")]


def test_a_package_that_is_none_of_the_pinned_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torch-9-cp311-cp311-linux_x86_64.whl").write_bytes(b"built by the site")
    good = tmp_path / "a-1-py3-none-any.whl"
    good.write_bytes(b"as pinned")
    pins = f"a==1 --hash=sha256:{hashlib.sha256(b'as pinned').hexdigest()}"
    build.check_digests(tmp_path, pins)
    good.write_bytes(b"something else")
    with pytest.raises(build.BuildError, match=r"a-1-py3-none-any\.whl is none of the files"):
        build.check_digests(tmp_path, pins)


def test_a_bill_of_materials_names_every_package_of_an_image(tmp_path: Path) -> None:
    build.write_sbom("slim", tmp_path / "sbom.json")
    bill = json.loads((tmp_path / "sbom.json").read_text())
    found = {f"{part['name']}=={part['version']}" for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "ghosttrack"
    assert found == {pin.split(" ")[0] for pin in build.pinned((CONTAINERS / "slim.lock").read_text())}
    assert str(Path.cwd()) not in json.dumps(bill)


def test_an_unknown_stage_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["trakc"]) == 1
    assert "there is no stage 'trakc'" in capsys.readouterr().err


def test_a_base_that_does_not_exist_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GHOSTTRACK_IMAGE_BASE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GHOSTTRACK_IMAGE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match="GHOSTTRACK_IMAGE_BASE: there is no"):
        build.ImageBuilder().bootstrap()


def test_the_containerfile_makes_what_the_definitions_make() -> None:
    """Locks, folders, variables and entry point of both; no engine for Containerfiles runs here."""
    containerfile = (CONTAINERS / "Containerfile").read_text()
    definitions = "".join((REPOSITORY / "apptainer" / name).read_text() for name in ("base.def", "stage.def"))
    for lock in ("torch.lock", "requirements.lock", "requirements-nodeps.lock", "slim.lock"):
        assert lock in containerfile
        assert lock in str(build.LOCKS)
    assert "image.json" in containerfile
    for part in ("/opt/packages", "/opt/ghosttrack", "entrypoint.sh", "wheels.sha256", "PYTHONSAFEPATH=1", "PYTHONNOUSERSITE=1",
                 "GHOSTTRACK_STAGE", "PYTHONPATH=/opt/ghosttrack:/opt/packages"):  # fmt: skip
        assert part in containerfile, part
        assert part in definitions, part
    copied = {
        line.split()[1].split("/")[0]
        for line in containerfile.splitlines()
        if line.startswith("COPY ") and "--from" not in line
    }
    assert copied == {"containers", "src", "config", "common", "stages"}
