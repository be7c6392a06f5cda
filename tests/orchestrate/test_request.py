"""What was asked for: from the command line, from the environment, from what was submitted."""

from pathlib import Path

import pytest

from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.submission import Submission, write_submission
from tests.conftest import write_small_config


def test_the_environment_s_overrides_reach_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs and containers have an environment of their own."""
    file = write_small_config(tmp_path)
    monkeypatch.setenv("TRAIN_BATCH_SIZE", "96")
    monkeypatch.setenv("GHOSTTRACK_ROOT", str(tmp_path / "elsewhere"))
    request = Request.of(str(file), ["sae.d_hidden=16"])
    assert request.config.sae_training.batch_size == 96
    assert request.folder == tmp_path / "elsewhere/runs/small"
    for arguments in (request.stage_arguments("track"), request.own_command("gc")):
        assert "sae_training.batch_size=96" in arguments
        assert f"paths.root={tmp_path}/elsewhere" in arguments
        assert "sae.d_hidden=16" in arguments


def test_what_was_submitted_is_followed_with_its_own_options(tmp_path: Path) -> None:
    file = str(write_small_config(tmp_path))
    site = tmp_path / "site.yaml"
    site.write_text("resources: {default: {cpus: 3}}")
    first = Request.of(file, ["sae.d_hidden=16"], cluster=str(site))
    assert Request.as_submitted(file).options == Request.of(file).options  # nothing is submitted yet
    submission = Submission(
        name="small", token="x", container="none", cluster=first.cluster, overrides=first.overrides
    )
    write_submission(first.folder, submission)
    again = Request.as_submitted(file)
    assert again.options == first.options
    assert again.profile.resources_of("track").cpus == 3
    assert Request.as_submitted(file, ["sae.d_hidden=32"]).config.sae.d_hidden == 32
    other = Request.as_submitted(file, ["sae.target_l0=3"])
    assert (other.config.sae.d_hidden, other.config.sae.target_l0) == (16, 3)  # what is not given is kept
    back_and_forth = Request.of(file, ["sae.d_hidden=16", "sae.d_hidden=32", "sae.d_hidden=16"])
    assert Request.of(file, back_and_forth.overrides).config.sae.d_hidden == 16


def test_the_name_of_a_stubs_results_asks_for_the_stub() -> None:
    assert Request.of("demo-stub").options == Request.of("demo", stub=True).options
