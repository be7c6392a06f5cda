"""Patience with a scheduler that answers now and then. The real one's silence is tested in tests/slurm."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ghosttrack.common.errors import SchedulerError
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.slurm.scheduler import NoAnswerError, QueuedJob, are_blocked

SILENCE = SchedulerError("sbatch: timed out after 120 s")


class Answers:
    """Stands for SLURM's commands: an answer or an error each time that one is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[object]) -> None:
        self.answers, self.calls = answers, list[str]()
        monkeypatch.setattr(scheduler, "_call", self)
        monkeypatch.setattr(scheduler.time, "sleep", lambda seconds: None)

    def __call__(self, command: Sequence[str]) -> str:
        self.calls.append(command[0])
        answer = self.answers[command[0]].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def submit(self) -> str:
        return scheduler.submit(Path("job.sbatch"), "name", "token/link", None, lambda text: None)


def test_a_submission_that_was_heard_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, sbatch=[SILENCE], squeue=["16|other/link\n17|token/link\n"])
    assert answers.submit() == "17"
    assert answers.calls == ["sbatch", "squeue"]


@pytest.mark.parametrize(
    "answer",
    [
        "17\n",
        "17;cluster\n",
        "Welcome!\nYour quota: 5\n17\n",
        "  17;c  \nHave a nice day\n",
        "12 jobs\r\n17\r\n",
    ],
)
def test_the_id_is_the_last_line_that_is_one(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    assert Answers(monkeypatch, sbatch=[answer]).submit() == "17"


@pytest.mark.parametrize(
    ("queued", "found"), [("17|token/link\n", "17"), ("2026|other\n", "2026"), (SILENCE, "2026")]
)
def test_of_two_lines_that_could_be_the_id_the_queue_says_which(
    monkeypatch: pytest.MonkeyPatch, queued: object, found: str
) -> None:
    assert Answers(monkeypatch, sbatch=["17\nGood bye\n2026\n"], squeue=[queued]).submit() == found


def wrapper(folder: Path, name: str, prints: bytes, mode: int = 0o755, head: bytes = b"#!/bin/sh\n") -> None:
    (folder / f"{name}.out").write_bytes(prints)
    (folder / name).write_bytes(head + f"cat '{folder}/{name}.out'\n".encode())
    (folder / name).chmod(mode)


def test_colours_and_other_alphabets_of_a_sites_wrappers_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wrapper(tmp_path, "sbatch", b"\x1b[1;31mGr\xfc\xdfe\x1b[0m\n\x1b]0;site\x07\x1b[32m17\x1b[0m\n")
    assert scheduler.submit(Path("job.sbatch"), "name", "token/link", None, print) == "17"
    wrapper(tmp_path, "squeue", b"Gr\xfc\xdfe|a\n\x1b[32m17_0|RUNNING|None|x-1:00|n1|(null)\x1b[0m\n")
    assert scheduler.queue(["17"]) == {"17_0": QueuedJob("17_0", "RUNNING", "None", "x-1:00", "n1", "(null)")}
    wrapper(tmp_path, "sinfo", b"a*|1-00:00:00|N/A\na*|infinite:|1000+\na*|:|\n")
    assert scheduler.limits(None) == scheduler.Limits(1000, None)


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wrapper(tmp_path, "squeue", b"", head=b"")  # neither a binary nor with a line that says what runs it
    with pytest.raises(SchedulerError, match="squeue cannot be run"):
        scheduler.queue(["17"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-02:03:04", 93784),
        ("2:03", 123),
        ("infinite", None),
        ("INVALID", None),
        ("x-1:00", None),
        ("1:", None),
    ],
)
def test_times_of_the_queue(text: str, seconds: int | None) -> None:
    assert scheduler.seconds_of_limit(text) == seconds


@pytest.mark.parametrize("answer", ["", "Welcome\n", "Submitted batch job 17\n", "17 18\n"])
def test_an_answer_without_an_id_is_shown(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    with pytest.raises(SchedulerError, match=r"no job id but .*squeue --me") as raised:
        Answers(monkeypatch, sbatch=[answer]).submit()
    assert answer.strip() in str(raised.value)


def test_a_submission_is_repeated_only_when_the_queue_says_that_it_was_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = Answers(monkeypatch, sbatch=[SILENCE, "18\n"], squeue=[SILENCE, SILENCE, "", ""])
    assert answers.submit() == "18"
    assert answers.calls == ["sbatch", "squeue", "squeue", "squeue", "squeue", "sbatch"]


def test_what_is_heard_late_is_not_submitted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, sbatch=[SILENCE], squeue=["", "17|token/link\n"])
    assert answers.submit() == "17"


def test_a_scheduler_that_stays_silent_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, sbatch=[SILENCE], squeue=[SILENCE] * 9)
    with pytest.raises(NoAnswerError, match=r"did not answer 5 times.*scontrol ping"):
        answers.submit()
    assert answers.calls.count("sbatch") == 1


@pytest.mark.parametrize(
    ("complaint", "mend"),
    [("Batch job submission failed: Invalid account or account/partition combination specified", "slurm.account"),
     ("invalid partition specified: nowhere", "slurm.partition"),
     ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "so many jobs"),
     ("fatal: Could not establish a configuration source", "--executor local"),
     ("something nobody has seen", "ghosttrack doctor")],
)  # fmt: skip
def test_a_refusal_is_said_with_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, complaint: str, mend: str
) -> None:
    answers = Answers(monkeypatch, sbatch=[SchedulerError(f"sbatch: {complaint}")])
    with pytest.raises(SchedulerError, match=mend):
        answers.submit()


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "REQUEUE_HOLD", "SIGNALING", "STAGE_OUT", "STOPPED"])
def test_a_state_that_is_not_an_end_is_active(state: str) -> None:
    assert QueuedJob("17", state, "None", "0:10", "", "(null)").active
    assert not QueuedJob("17", "NODE_FAIL", "None", "0:10", "", "(null)").active


def queued(text: str) -> list[QueuedJob]:
    return [QueuedJob(*line.split("|")) for line in text.split()]


FAILED_LAYER = """
1_0|COMPLETED|None|0:00|vm|(null)
1_1|FAILED|NonZeroExitCode|0:00|vm|(null)
2_1|PENDING|DependencyNeverSatisfied|0:00||aftercorr:1_*(failed)
3|PENDING|Dependency|0:00||afterok:2_*(unfulfilled)
4_1|PENDING|Dependency|0:00||aftercorr:2_*(unfulfilled)
"""


@pytest.mark.parametrize(
    ("others", "blocked"),
    [
        ("", True),
        ("2_0|PENDING|Dependency|0:00||aftercorr:1_*(unfulfilled)", False),
        ("2_0|PENDING|Resources|0:00||(null)", False),
        ("2_0|RUNNING|None|0:00|vm|(null)", False),
        ("4_0|PENDING|Dependency|0:00||aftercorr:2_*(unfulfilled)", False),
        ("5|PENDING|Dependency|0:00||afterok:4_*(unfulfilled),afterany:9(unfulfilled)", True),
        ("5|PENDING|Dependency|0:00||afterok:4_1(unfulfilled)", True),
        ("5|PENDING|Dependency|0:00||afterok:4_0(unfulfilled)", False),
        ("5|PENDING|Dependency|0:00||afterok:3(unfulfilled)?afternotok:1_*(unfulfilled)", False),
        ("5|PENDING|Dependency|0:00||afterok:3(unfulfilled)?afternotok:4_*(unfulfilled)", True),
    ],
)
def test_a_chain_is_blocked_when_all_that_is_left_waits_for_what_failed(others: str, blocked: bool) -> None:
    """Lines of a real queue (SLURM 22.05); that of the first False was seen after layer 0 had ended."""
    assert are_blocked(queued(FAILED_LAYER + others)) is blocked


def test_a_chain_that_is_over_is_not_blocked() -> None:
    assert not are_blocked(queued("1_1|FAILED|NonZeroExitCode|0:00|vm|(null)"))
    assert not are_blocked([])
