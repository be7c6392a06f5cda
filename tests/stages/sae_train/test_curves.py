"""Training curves in a tracker: the same numbers as in the training's own record, and one line where it is not there."""

import struct
from pathlib import Path

import pytest

from ghosttrack.common.errors import ConfigError
from ghosttrack.stages.sae_train.curves import tracker
from ghosttrack.stages.sae_train.run import NOTE_EVERY, run
from tests.stages.sae_train.synthetic import config, job, sparse_states, write_extract

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name to (step, value), of TensorBoard's records: length, its checksum, an event, its checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in folder.rglob("events.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_a_training_is_followed_from_step_to_step(tmp_path: Path) -> None:
    write_extract(tmp_path, {1: sparse_states(2400, 24, 40, 4), 2: sparse_states(2400, 24, 40, 4)})
    settings = config([1, 2], paths={"root": str(tmp_path)}, sae_training={"log_with": "tensorboard"})
    metrics = run(job(settings, "base", tmp_path / "run", tmp_path))
    curves = written(tmp_path / "runs/test/curves")
    assert set(curves) == {"L0", "loss", "dead_latents", "held_out_fvu"}
    steps = [step for step, _ in curves["loss"]]
    assert steps == list(range(NOTE_EVERY, metrics["checks"][-1]["step"] + 1, NOTE_EVERY))
    assert curves["loss"][-1][1] < curves["loss"][0][1]
    checked = {check["step"]: check["held_out_fvu"] for check in metrics["checks"]}
    for step, fvu in curves["held_out_fvu"]:
        assert fvu == pytest.approx(checked[max(each for each in checked if each <= step)], rel=1e-5)


def test_one_that_is_not_there_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(ConfigError, match="pip install wandb"), tracker("wandb", "run", "layer 1", tmp_path):
        pass
