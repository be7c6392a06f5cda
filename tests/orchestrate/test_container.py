"""The command line that starts a stage in its image, and images that are not there or were changed."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from ghosttrack.common import files
from ghosttrack.common.config.cluster import ClusterProfile, Resources
from ghosttrack.common.errors import ImageError
from ghosttrack.orchestrate.container import bind_option, binds, container_command, images_of
from tests.fake_project import FakeProject


@pytest.fixture
def profile(tmp_path: Path) -> ClusterProfile:
    folder = tmp_path / "images"
    folder.mkdir()
    for stage in ("source", "layers"):
        (folder / f"{stage}.sif").write_bytes(stage.encode())
    return ClusterProfile(images=str(folder), environment={"MINE": "1"}, binds=["/data:/data:ro"])


def test_a_missing_image_is_named_with_the_command_that_builds_it(profile: ClusterProfile) -> None:
    with pytest.raises(
        ImageError, match=r"there is no image .*sink\.sif; build it with `make images STAGES=sink`"
    ):
        images_of(profile, ["source", "sink"])


def test_an_image_is_hashed_once_and_again_when_it_has_changed(
    profile: ClusterProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    whole = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: (hashed.append(path), whole(path))[1])
    first = images_of(profile, ["source"])
    assert images_of(profile, ["source"]) == first
    assert len(hashed) == 1
    (Path(profile.images) / "source.sif").write_bytes(b"something else")
    assert images_of(profile, ["source"]) != first
    assert len(hashed) == 2


def test_a_stage_sees_its_root_read_only_but_for_what_it_writes(project: FakeProject) -> None:
    request, root = project.request(), project.root.resolve()
    modes = binds(request, "layers")
    assert modes[str(root)] == "ro"
    assert [path for path, mode in modes.items() if mode == "rw"] == [f"{root}/runs/small/logs/layers.jsonl"]
    assert list(modes).index(str(root)) < list(modes).index(f"{root}/runs/small/logs/layers.jsonl")
    assert modes[str(project.config_file.resolve())] == "ro"  # given as a path


def test_the_command_shuts_the_stage_off_and_tells_it_which_image_it_is_in(
    project: FakeProject, profile: ClusterProfile
) -> None:
    request = replace(project.request(), profile=profile)
    image = images_of(profile, ["layers"])["layers"]
    command = container_command(image, request, ["layer_1"])
    for option in ("--cleanenv", "--containall", "--no-home", "/data:/data:ro", "MINE=1", "HF_HUB_OFFLINE=1",
                   f"GHOSTTRACK_IMAGE_SHA256={image.sha256}"):  # fmt: skip
        assert option in command
    assert "--nv" not in command
    publisher, at = command[: command.index("--")], command.index(str(image.path), command.index("--"))
    assert publisher[publisher.index("--image") + 1] == str(image.path)
    assert command[at + 1 :] == request.stage_arguments("layers", ["layer_1"])


def test_prepare_keeps_what_it_fetches_and_writes_no_token_into_a_script(
    project: FakeProject, profile: ClusterProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    request = replace(project.request(), profile=profile)
    fetching = request.contracts[0].model_copy(update={"stage": "prepare", "network": True})
    request = replace(request, contracts=[fetching])
    assert binds(request, "prepare")[str(tmp_path / "hub")] == "rw"
    assert (tmp_path / "hub").is_dir()
    image = replace(images_of(profile, ["source"])["source"], stage="prepare")
    command = container_command(image, request, [])
    assert f"HF_HOME={tmp_path}/hub" in command
    assert "HF_HUB_OFFLINE=1" not in command
    assert "secret" not in " ".join(command)


def test_gpus_are_passed_through_where_the_profile_asks_for_some(
    project: FakeProject, profile: ClusterProfile
) -> None:
    with_gpus = profile.model_copy(update={"resources": {"layers": Resources(gpus=2)}})
    request = replace(project.request(), profile=with_gpus)
    image = images_of(profile, ["layers"])["layers"]
    assert "--nv" in container_command(image, request, [])


def test_a_key_that_is_not_there_is_one_clear_error(profile: ClusterProfile, tmp_path: Path) -> None:
    signed = profile.model_copy(update={"public_key": str(tmp_path / "nobody.pem")})
    with pytest.raises(ImageError, match=r"there is no public key .*nobody\.pem"):
        images_of(signed, ["source"])


def test_a_stage_sees_the_saes_that_it_takes(project: FakeProject, tmp_path: Path) -> None:
    for layer in (0, 2):
        (tmp_path / f"saes/layer_{layer}").mkdir(parents=True)
    modes = binds(project.request(f"sae.pretrained={tmp_path}/saes/layer_{{layer}}"), "layers")
    saes = {path: mode for path, mode in modes.items() if "/saes/" in path}
    assert saes == {f"{tmp_path.resolve()}/saes/layer_{layer}": "ro" for layer in (0, 2)}


@pytest.mark.parametrize("name", ["a:b", "a,b", "a #2", 'a"b'])
def test_a_path_of_any_name_is_bound_as_it_is(name: str) -> None:
    option, value = bind_option(f"/data/{name}", "ro")
    if option == "--bind":
        assert value == f"/data/{name}:/data/{name}:ro"
    else:
        [fields] = csv.reader([value])  # as apptainer reads it
        assert fields == ["type=bind", f"source=/data/{name}", f"destination=/data/{name}", "ro"]
    assert (option == "--bind") == (name == "a #2")


def test_what_a_configuration_names_is_bound_wherever_it_lies(
    project: FakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "new #2.jsonl").write_text("")
    modes = binds(
        project.request("data.questions=hub:~/set", f"data.corpus={tmp_path}/new #2.jsonl"), "layers"
    )
    assert modes[f"{tmp_path}/set"] == modes[f"{tmp_path}/new #2.jsonl"] == "ro"
