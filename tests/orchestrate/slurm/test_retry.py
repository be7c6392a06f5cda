"""What a retry by cause changes, and where it gives up."""

import pytest

from ghosttrack.common.config.cluster import Resources, RetryConfig
from ghosttrack.orchestrate.slurm.retry import Failure, treatment
from ghosttrack.orchestrate.slurm.scheduler import Limits, seconds_of_limit
from ghosttrack.orchestrate.slurm.submit import Treatment

ASKED = {
    "extract": Resources(memory="16G", time="2:00:00"),
    "sae_train": Resources(memory="1500M", time="0:00:45"),
}
RETRY = RetryConfig(enabled=True, attempts=2)
ROOMY = Limits(megabytes=256 * 1024, seconds=86400)


def decide(*failures: Failure, before: Treatment | None = None, limit: Limits = ROOMY) -> Treatment | str:
    return treatment(failures, ASKED, before or Treatment(), RETRY, lambda resources: limit)


def test_more_memory_where_it_ran_out_and_nothing_else() -> None:
    found = decide(Failure("extract", "OUT_OF_MEMORY"), Failure("extract", "OUT_OF_MEMORY"))
    assert isinstance(found, Treatment)
    assert found.resources["extract"] == ASKED["extract"].model_copy(update={"memory": "24576M"})
    assert found.resources["sae_train"] == ASKED["sae_train"]
    assert found.attempt == 1


def test_more_time_where_nothing_can_be_continued_from() -> None:
    found = decide(Failure("sae_train", "TIMEOUT"))
    assert isinstance(found, Treatment)
    assert found.resources["sae_train"].time == "0:01:30"


def test_finished_steps_are_continued_from_in_the_same_time_and_once_only() -> None:
    failure = Failure("extract", "TIMEOUT", resumable=True)
    found = decide(failure)
    assert isinstance(found, Treatment)
    assert found.resources["extract"].time == "2:00:00"
    again = decide(failure, before=found)
    assert isinstance(again, Treatment)
    assert again.resources["extract"].time == "4:00:00"


def test_tasks_of_an_array_that_failed_differently_get_both() -> None:
    found = decide(Failure("extract", "TIMEOUT"), Failure("extract", "OUT_OF_MEMORY"))
    assert isinstance(found, Treatment)
    assert (found.resources["extract"].memory, found.resources["extract"].time) == ("24576M", "4:00:00")


def test_a_partition_bounds_what_is_asked_for() -> None:
    found = decide(
        Failure("extract", "OUT_OF_MEMORY"), Failure("extract", "TIMEOUT"), limit=Limits(20_000, 9000)
    )
    assert isinstance(found, Treatment)
    assert (found.resources["extract"].memory, found.resources["extract"].time) == ("20000M", "2:30:00")
    assert "no node of its partition has more" in str(
        decide(Failure("extract", "OUT_OF_MEMORY"), limit=Limits(16 * 1024))
    )
    assert "gives no more" in str(decide(Failure("extract", "TIMEOUT"), limit=Limits(seconds=7200)))


def test_a_failed_node_is_left_out_and_stays_so() -> None:
    found = decide(Failure("extract", "NODE_FAIL", "n2"), before=Treatment(attempt=1, excluded=["n1"]))
    assert isinstance(found, Treatment)
    assert (list(found.excluded), found.attempt) == (["n1", "n2"], 2)
    assert found.resources == ASKED


def test_a_preemption_costs_no_attempt() -> None:
    found = decide(Failure("extract", "PREEMPTED"), before=Treatment(attempt=2))
    assert isinstance(found, Treatment)
    assert found.attempt == 2
    both = decide(Failure("extract", "PREEMPTED"), Failure("sae_train", "NODE_FAIL"))
    assert isinstance(both, Treatment)
    assert both.attempt == 1


@pytest.mark.parametrize("cause", ["FAILED", "CANCELLED", "held"])
def test_what_another_try_does_not_mend_is_not_tried(cause: str) -> None:
    assert "another try does not cure" in str(
        decide(Failure("extract", "OUT_OF_MEMORY"), Failure("extract", cause))
    )


def test_attempts_are_bounded() -> None:
    assert "2 retries did not help" in str(
        decide(Failure("extract", "OUT_OF_MEMORY"), before=Treatment(attempt=2))
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1-00:00:00", 86400), ("10:00", 600), ("2:00:00", 7200), ("infinite", None), ("n/a", None)],
)
def test_limits_of_time_are_read_as_sinfo_writes_them(text: str, seconds: int | None) -> None:
    assert seconds_of_limit(text) == seconds
