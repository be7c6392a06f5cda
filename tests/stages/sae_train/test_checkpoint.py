"""Training that is interrupted comes to the same weights, bit for bit."""

import functools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ghosttrack.common.errors import CorruptInputError, StopRequested
from ghosttrack.stages.sae_train import evaluate, run
from ghosttrack.stages.sae_train.batches import Batches
from ghosttrack.stages.sae_train.checkpoint import Checkpoint
from ghosttrack.stages.sae_train.initialise import initial_parameters
from ghosttrack.stages.sae_train.jumprelu import Parameters
from ghosttrack.stages.sae_train.normalise import LayerStates
from ghosttrack.stages.sae_train.training import Recipe, Training, train
from tests.stages.sae_train.synthetic import config, job, layer_of, sparse_states, write_extract

D_HIDDEN, TARGET, STEPS = 96, 8, 40


@pytest.fixture(scope="module")
def layer() -> LayerStates:
    return layer_of(sparse_states(2000, 32, 60, 5))


def new_run(layer: LayerStates, path: Path | None = None, every: float = 0.0) -> Training:
    batches = Batches([layer], 64, seed=0)
    parameters = initial_parameters(batches.sample(4 * D_HIDDEN, 0), D_HIDDEN, TARGET, seed=0)

    def check(candidate: Parameters) -> evaluate.Checked:
        return evaluate.fvu_at_target(candidate, [layer], [layer.held_out], TARGET)

    checkpoint = Checkpoint(path, every) if path else None
    return Training(parameters, batches, Recipe(STEPS, 3e-3, TARGET), check, checkpoint)


def fit(run: Training, *beside: Training, die_after: int | None = None) -> Training:
    """die_after: a step after which it dies before anything is saved of it."""

    def on_step(going: Sequence[Training], _: object) -> None:
        if going[0].steps_done == die_after:
            raise KeyboardInterrupt

    train([run, *beside], on_step)
    return run


@pytest.fixture(scope="module")
def undisturbed(layer: LayerStates) -> Training:
    return fit(new_run(layer))


def same(one: Training, other: Training) -> bool:
    assert one.best
    assert other.best
    pairs = zip(vars(one.best).values(), vars(other.best).values(), strict=True)
    return (
        all(torch.equal(a, b) for a, b in pairs)
        and one.checks == other.checks
        and one.curve() == other.curve()
        and torch.equal(one.fired(), other.fired())
    )


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_dying_after_any_step_changes_nothing(
    layer: LayerStates, undisturbed: Training, tmp_path: Path, every: float
) -> None:
    path = tmp_path / "training.pt"
    for step in range(3, STEPS, 4):
        with pytest.raises(KeyboardInterrupt):
            fit(new_run(layer, path, every), die_after=step)
        saved = Checkpoint(path).found
        assert (saved["steps_done"] if saved else None) == (step - 1 if every == 0 else None)
    assert same(fit(new_run(layer, path, every)), undisturbed)


def test_a_stop_is_obeyed_at_the_next_step_and_loses_none(
    layer: LayerStates, undisturbed: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stop = tmp_path / "training.pt", tmp_path / "stop"
    monkeypatch.setenv("GHOSTTRACK_STOP_FILE", str(stop))
    stop.touch()
    for step in range(1, 8):
        with pytest.raises(StopRequested):
            fit(new_run(layer, path, 1e9))
        assert (Checkpoint(path).found or {})["steps_done"] == step
    stop.unlink()
    assert same(fit(new_run(layer, path, 1e9)), undisturbed)


def test_what_cannot_be_read_is_begun_anew(layer: LayerStates, undisturbed: Training, tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(new_run(layer, path), die_after=9)
    os.truncate(path, path.stat().st_size // 2)
    assert same(fit(new_run(layer, path, 1e9)), undisturbed)


@pytest.mark.parametrize("content", [b"", b"nothing", b"0", b"\x80", b"l.", b"hA", b"I\xfa\n", b"PK\x03\x04"])
def test_bytes_of_any_kind_are_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training.pt").write_bytes(content)
    assert Checkpoint(tmp_path / "training.pt").found is None


def test_layers_go_on_in_another_stack_than_they_began_in(
    layer: LayerStates, undisturbed: Training, tmp_path: Path
) -> None:
    """One was alone when it was interrupted, the other two stood together; then all three go on, two behind one."""
    names = ["a.pt", "b.pt", "c.pt"]
    with pytest.raises(KeyboardInterrupt):
        fit(new_run(layer, tmp_path / "a.pt"), die_after=7)
    with pytest.raises(KeyboardInterrupt):
        fit(*(new_run(layer, tmp_path / name) for name in names[1:]), die_after=20)
    runs = [new_run(layer, tmp_path / name, 1e9) for name in names]
    assert [run.steps_done for run in runs] == [6, 19, 19]
    fit(*runs)
    assert all(same(run, undisturbed) for run in runs)


def test_a_checkpoint_of_a_stack_holds_its_own_layer_only(layer: LayerStates, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone.pt", tmp_path / "together.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(new_run(layer, alone), die_after=3)
    with pytest.raises(KeyboardInterrupt):
        fit(new_run(layer, together), *(new_run(layer) for _ in range(3)), die_after=3)
    assert together.stat().st_size == pytest.approx(alone.stat().st_size, rel=0.01)


@pytest.fixture(scope="module")
def interrupted(layer: LayerStates, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `new_run` after two steps."""
    path = tmp_path_factory.mktemp("interrupted") / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(new_run(layer, path), die_after=3)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": STEPS + 4}, "steps 40 there, 44 here"),
        ({"learning_rate": 1e-3}, "learning_rate 0.003 there, 0.001 here"),
        ({"target_l0": 9}, "target_l0 8 there, 9 here"),
        ({"dtype": torch.bfloat16}, r"dtype torch\.float32 there, torch\.bfloat16 here"),
        ({"d_hidden": D_HIDDEN + 8}, "d_hidden 96 there, 104 here"),
        ({"batch_size": 32}, "batch_size 64 there, 32 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"tokens": 500}, "tokens 1560 there, 500 here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_configuration_is_refused(
    layer: LayerStates, interrupted: Path, change: dict[str, Any], words: str
) -> None:
    now = {
        "steps": STEPS, "learning_rate": 3e-3, "target_l0": TARGET, "dtype": torch.float32, "d_hidden": D_HIDDEN,
        "batch_size": 64, "seed": 0, "tokens": None, **change,
    }  # fmt: skip
    batches = Batches([layer], now["batch_size"], now["seed"], now["tokens"])
    parameters = initial_parameters(batches.sample(400, 0), now["d_hidden"], TARGET, seed=0)
    recipe = Recipe(now["steps"], now["learning_rate"], now["target_l0"], now["dtype"])
    with pytest.raises(
        CorruptInputError, match=rf"training\.pt is a checkpoint of another training \({words}\); remove it"
    ):
        Training(parameters, batches, recipe, new_run(layer).check, Checkpoint(interrupted))


@pytest.mark.parametrize(
    "content",
    [{"weights": torch.zeros(3)}, {}, {"training": 3}, {"training": {}}, torch.zeros(3), torch.tensor(0), [1], "text", 0],
    ids=str,
)  # fmt: skip
def test_a_file_of_something_else_is_refused(layer: LayerStates, tmp_path: Path, content: Any) -> None:
    path = tmp_path / "training.pt"
    torch.save(content, path)
    with pytest.raises(CorruptInputError, match=r"training\.pt does not hold what .* remove it"):
        new_run(layer, path)


@pytest.mark.parametrize(
    "key", ["parameters", "moments", "fired_at", "curves", "steps_done", "seconds", "checks", "best"]
)
def test_a_checkpoint_of_which_a_part_is_wrong_is_refused(
    layer: LayerStates, interrupted: Path, tmp_path: Path, key: str
) -> None:
    path = tmp_path / "training.pt"
    state = torch.load(interrupted, weights_only=True)
    del state[key]
    for changed in (state, {**state, key: {"a": "b"}}, {**state, key: torch.zeros(2, 2)}):
        torch.save(changed, path)
        with pytest.raises(CorruptInputError, match=r"training\.pt does not hold what .* remove it"):
            new_run(layer, path)


def run_often_saved(root: Path, extract: Path, started: Any) -> None:
    torch.set_num_threads(1)
    run.Checkpoint = functools.partial(Checkpoint, every=0.05)  # type: ignore[misc,assignment]
    started.set()
    run.run(job(SETTINGS, "base", root, extract))


SETTINGS = config([1, 2], sae_training={"base_epochs": 15})


@pytest.mark.slow
def test_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    extract, alone, killed = (tmp_path / name for name in ("extract", "alone", "killed"))
    states = sparse_states(2400, 24, 40, 4)
    write_extract(extract, {1: states, 2: 3 * states.roll(1, 1)})
    run.run(job(SETTINGS, "base", alone, extract))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["ghosttrack.stages.sae_train.run"])
    luck, started, seen = random.Random(2), processes.Event(), 0
    checkpoint = killed / "base/scratch/training.pt"
    for _ in range(5):
        started.clear()
        process = processes.Process(target=run_often_saved, args=(killed, extract, started))
        process.start()
        started.wait()
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert process.is_alive(), "it came to its end too early"
            time.sleep(0.002)
        time.sleep(luck.uniform(0, 0.1))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        saved = Checkpoint(checkpoint).found
        assert saved
        assert saved["steps_done"] > seen
        seen = saved["steps_done"]
    run.run(job(SETTINGS, "base", killed, extract))
    for name in ("sae_base.pt", "base_metrics.json"):
        assert (killed / "base/out" / name).read_bytes() == (alone / "base/out" / name).read_bytes()
