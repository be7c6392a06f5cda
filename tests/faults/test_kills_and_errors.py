"""Killed, or refused by the file system, at every file operation: nothing half is published, and the next run gets through."""

import random
import shutil
from pathlib import Path

import pytest

from tests.faults.conftest import SEED, WHOLE, Tally, budget
from tests.faults.injection import EVERYDAY, Outcome, run
from tests.faults.pipeline import Pipeline

DOCUMENTED = {0, 13, 14, 17}
"""Done all the same (what failed was only a convenience); an input that is gone or damaged; storage."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    warm = Pipeline(tmp_path_factory.mktemp("warm"))
    assert warm.both() == 0  # what is imported late is imported here, once, and not in every forked process
    return Pipeline(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def saved(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Roots before each stage, and after both."""
    folder = tmp_path_factory.mktemp("saved")
    pipeline.root.mkdir(exist_ok=True)
    places = {}
    for stage in ("upper", "lower", "done"):
        places[stage] = Path(shutil.copytree(pipeline.root, folder / stage, symlinks=True))
        if stage != "done":
            done = run(pipeline.work(stage), pipeline.root)
            assert done.code == 0, done.said
    return places


@pytest.fixture(scope="module")
def expected(pipeline: Pipeline, saved: dict[str, Path]) -> dict[str, bytes]:
    pipeline.restore(saved["done"])
    return pipeline.public()


def recovers(pipeline: Pipeline, expected: dict[str, bytes]) -> None:
    """What is published is whole; the next run ends well, with the same bytes, and leaves nothing lying about."""
    assert pipeline.whole()
    again = run(pipeline.both, pipeline.root)
    assert again.code == 0, again.said
    assert pipeline.public() == expected
    assert pipeline.litter() == []
    assert pipeline.whole()


def operations(pipeline: Pipeline, saved: Path, stage: str, way: str, *, reads: bool) -> Outcome:
    pipeline.restore(saved)
    return run(pipeline.work(stage, way), pipeline.root, watch="all" if reads else "changes")


@pytest.mark.parametrize(
    ("stage", "way"), [("upper", "plain"), ("lower", "plain"), ("upper", "contained"), ("lower", "contained")]
)
def test_killed_at_every_change_of_a_file(
    pipeline: Pipeline, saved: dict[str, Path], expected: dict[str, bytes], stage: str, way: str, tally: Tally
) -> None:
    total = operations(pipeline, saved[stage], stage, way, reads=False).operations
    assert total > 60
    chance = random.Random(SEED)
    points = range(total) if WHOLE else sorted(chance.sample(range(total), 8))
    for at in points:
        pipeline.restore(saved[stage])
        killed = run(pipeline.work(stage, way), pipeline.root, at)
        assert killed.code == -9
        if WHOLE and chance.random() < 0.5:  # and the next one too, somewhere
            run(pipeline.both, pipeline.root, chance.randrange(total))
        recovers(pipeline, expected)
        tally(f"killed at a file operation: {stage}, {way}", True)


@pytest.mark.parametrize(
    ("stage", "way"), [("upper", "plain"), ("lower", "plain"), ("upper", "contained"), ("lower", "contained")]
)
def test_a_power_cut_that_loses_what_was_not_fsynced(
    pipeline: Pipeline, saved: dict[str, Path], expected: dict[str, bytes], stage: str, way: str, tally: Tally
) -> None:
    total = operations(pipeline, saved[stage], stage, way, reads=False).operations
    points = range(total) if WHOLE else sorted(random.Random(SEED).sample(range(total), 4))
    for at in points:
        pipeline.restore(saved[stage])
        assert run(pipeline.work(stage, way), pipeline.root, at, power=True).code == -9
        recovers(pipeline, expected)
        tally(f"power cut at a file operation: {stage}, {way}", True)


@pytest.mark.parametrize(
    ("stage", "way"), [("upper", "plain"), ("lower", "plain"), ("upper", "contained"), ("lower", "contained")]
)
def test_every_refusal_is_one_clear_error(
    pipeline: Pipeline, saved: dict[str, Path], expected: dict[str, bytes], stage: str, way: str, tally: Tally
) -> None:
    total = operations(pipeline, saved[stage], stage, way, reads=True).operations
    chance = random.Random(SEED + 1)
    trials = [(at, code) for at in range(total) for code in EVERYDAY]
    for at, code in sorted(chance.sample(trials, budget(10, 300))):
        pipeline.restore(saved[stage])
        failed = run(pipeline.work(stage, way), pipeline.root, at, code, watch="all")
        assert failed.code in DOCUMENTED, f"errno {code} at {at}: exit {failed.code}\n{failed.said}"
        recovers(pipeline, expected)
        tally(f"errno at a file operation: {stage}, {way}", True)
