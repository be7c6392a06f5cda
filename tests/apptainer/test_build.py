"""What goes into an image, without building one."""

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
    lock = "# a comment\na==1 ; python_full_version < '3.11'\na==2 ; python_full_version >= '3.11'\nb==3 ; sys_platform == 'win32'\n"
    assert build.pinned(lock) == ["a==2"]


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


def test_a_package_that_is_not_the_pinned_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pins = (REPOSITORY / build.DIGESTS).read_text().splitlines()
    pinned = {name.split("-")[0] for name in (line.split()[1] for line in pins)}
    for kind in build.LOCKS:
        for lock in build.LOCKS[kind]:
            for pin in build.pinned((CONTAINERS / lock).read_text()):
                name = pin.split("==")[0].lower().replace("-", "_").replace(".", "_")
                assert name in pinned or name == "torch", name
    file = tmp_path / pins[0].split()[1]
    file.write_bytes(b"something else")
    with pytest.raises(build.BuildError, match=r"is another file than containers/wheels\.sha256 says"):
        build.check_digests(tmp_path)
    file.rename(tmp_path / "new-1.0-py3-none-any.whl")
    build.check_digests(tmp_path)
    assert "1 packages have no digest" in capsys.readouterr().out


def test_an_unknown_stage_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["trakc"]) == 1
    assert "there is no stage 'trakc'" in capsys.readouterr().err


def test_a_base_that_does_not_exist_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GHOSTTRACK_IMAGE_BASE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GHOSTTRACK_IMAGE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match="GHOSTTRACK_IMAGE_BASE: there is no"):
        build.Builder().bootstrap()


def test_the_containerfile_makes_what_the_definitions_make() -> None:
    """Locks, folders, variables and entry point of both; no engine for Containerfiles runs here."""
    containerfile = (CONTAINERS / "Containerfile").read_text()
    definitions = "".join((REPOSITORY / "apptainer" / name).read_text() for name in ("base.def", "stage.def"))
    for lock in ("requirements.lock", "requirements-nodeps.lock", "slim.lock"):
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
    assert copied == {"containers", "config", "common", "stages"}
