"""The only place that talks to SLURM: sbatch, squeue, scancel, each with patience for a scheduler that does not answer."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ghosttrack.common.config.cluster import Resources, SlurmProfile, seconds_of
from ghosttrack.common.errors import SchedulerError

WAITS = (2.0, 5.0, 15.0, 30.0)
"""Seconds before each new try of a call that got no answer."""
SETTLING = 3.0
"""Seconds for a scheduler that answers again to do what had reached it."""
PATIENCE = 120.0
"""Seconds that one call may take."""
NO_ANSWER = (
    "timed out", "Unable to contact slurm controller", "Connection refused", "Resource temporarily unavailable",
    "Zero Bytes were transmitted", "Transport endpoint", "Slurm backup controller in standby",
)  # fmt: skip
"""In the texts of SLURM's commands when the scheduler could not be asked; anything else is its answer."""
MENDS = {
    "configuration source": "SLURM's programs are here and no cluster is: run here with --executor local (EXECUTOR=local "
    "of make, GHOSTTRACK_EXECUTOR), or point SLURM_CONF at the cluster's slurm.conf",
    "job submit limit": "so many jobs at a time are not allowed here: wait for others to end, or ask for less",
    "invalid account": "correct slurm.account in the cluster profile; `sacctmgr show associations user=$USER` lists yours",
    "partition": "correct slurm.partition in the cluster profile; `sinfo -s` lists the partitions",
    "account": "correct slurm.account in the cluster profile; `sacctmgr show associations user=$USER` lists yours",
    "qos": "correct slurm.qos in the cluster profile",
    "node configuration": "ask for less in `resources` of the cluster profile; `sinfo -o '%P %c %m %G'` shows what nodes have",
    "time limit": "ask for less time in `resources` of the cluster profile",
    "feature": "correct slurm.constraint in the cluster profile",
}
"""Words of sbatch's refusal to what can be done; the first that it holds count."""
OVER = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
)  # fmt: skip
"""States of a job that runs no more and never will again."""

COLOUR = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
"""What sites' wrappers put around words for a terminal."""
KEPT_WITHIN_JOBS = ("SLURM_CONF", "SLURM_CLUSTERS")


class NoAnswerError(SchedulerError):
    """The scheduler could not be asked; whether it took the last job is not known."""


Tell = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """The most that a job may ask for on a partition; None where there is no limit."""

    megabytes: int | None = None
    """Memory of its largest node."""
    seconds: int | None = None


@dataclass(frozen=True)
class QueuedJob:
    """A job or array element that the scheduler knows, be it over or not."""

    name: str
    """`17` or `17_4`."""
    state: str
    """RUNNING, PENDING, FAILED, OUT_OF_MEMORY, …"""
    reason: str
    elapsed: str
    node: str
    dependency: str
    """As squeue writes it, `afterok:17(unfulfilled),aftercorr:18_*(unfulfilled)`; with ? between them any one will do."""

    @property
    def job_id(self) -> str:
        """Of an element, its array's."""
        return self.name.split("_")[0]

    @property
    def active(self) -> bool:
        """Whether it runs or still may."""
        return self.state not in OVER

    @property
    def stuck(self) -> bool:
        """Whether it waits for something that will never be."""
        return self.state == "PENDING" and self.reason == "DependencyNeverSatisfied"

    def waits_for(self, held: Collection[str]) -> bool:
        """Whether it waits for jobs or elements of these names, whatever else ends."""
        if self.state != "PENDING" or not self.reason.startswith("Dependency"):
            return False
        arrays = {name.split("_")[0] for name in held}
        own_index = self.name.partition("_")[2]

        def waits(part: str) -> bool:
            kind, _, name = part.partition("(")[0].partition(":")
            name = name.replace("*", own_index) if kind == "aftercorr" else name.removesuffix("_*")
            return name in held or (kind != "aftercorr" and name in arrays)

        quantifier = all if "?" in self.dependency else any
        return quantifier(waits(part) for part in re.split("[?,]", self.dependency))


def are_blocked(jobs: Iterable[QueuedJob]) -> bool:
    """Whether nothing runs any more, and what is left waits, at first or second hand, for what failed.

    By what each waits for, since the scheduler says "Dependency" for a while of those whose dependency came true too.
    """
    left = {job.name: job for job in jobs if job.active}
    held: set[str] = set()
    while more := {name for name, job in left.items() if job.stuck or job.waits_for(held)} - held:
        held |= more
    return bool(left) and len(held) == len(left)


def available() -> bool:
    return shutil.which("sbatch") is not None


def submit(script: Path, name: str, comment: str, dependency: str | None, tell: Tell) -> str:
    """Submit a script; the job's id. A call without an answer that was heard after all is not repeated.

    Raises SchedulerError with what sbatch said, and the mend.
    """
    command = ["sbatch", "--parsable", f"--comment={comment}"]
    if dependency:
        command.append(f"--dependency={dependency}")

    def accepted() -> str | None:
        listed = _call(["squeue", "--noheader", f"--name={name}", "--format=%F|%k"])
        jobs = [line.strip().partition("|") for line in listed.splitlines()]
        return next((job for job, _, remark in jobs if remark == comment), None)

    found = job_ids(_patiently([*command, str(script)], tell, accepted))
    if len(found) > 1:  # a banner has a line that could be an id: the queue knows which is
        with contextlib.suppress(SchedulerError):
            return accepted() or found[-1]
    return found[-1]


def job_ids(answer: str) -> list[str]:
    """What can be the id in what `sbatch --parsable` printed; of sites that print a banner, lines of that perhaps, too.

    Raises SchedulerError where there is none; the job may have been taken all the same, so that nothing is cancelled.
    """
    found = [
        match[1]
        for line in answer.splitlines()
        if (match := re.fullmatch(r"([0-9]+)(;[\w.-]+)?", line.strip()))
    ]
    if not found:
        raise SchedulerError(
            f"sbatch printed no job id but {answer.strip()[:500]!r}; look with `squeue --me` whether it took the job, and "
            "cancel that before you submit again"
        )
    return found


def test(slurm: SlurmProfile, resources: Resources) -> str:
    """What sbatch would do with a job that asks for this. Raises SchedulerError with the mend where it would refuse."""
    options = [f"--{name}={value}" for name, value in requests(slurm, resources).items()]
    command = ["sbatch", "--test-only", *options, *slurm.options, "--wrap=true"]
    try:
        said = _call(command, both=True).strip().splitlines() or ["sbatch would take it"]
        return said[-1].removeprefix("sbatch: ")
    except SchedulerError as error:
        raise SchedulerError(f"{error}; {_mend(str(error))}") from error


def requests(slurm: SlurmProfile, resources: Resources) -> dict[str, str]:
    """What a job asks for, as names and values of sbatch's options."""
    asked = {
        "time": resources.time,
        "nodes": str(resources.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(resources.cpus),
        "mem": resources.memory,
        "gres": resources.gres or (f"gpu:{resources.gpus}" if resources.gpus else None),
        "account": slurm.account,
        "partition": resources.partition or slurm.partition,
        "qos": resources.qos or slurm.qos,
        "constraint": resources.constraint or slurm.constraint,
        "reservation": slurm.reservation,
    }
    return {name: value for name, value in asked.items() if value}


def queue(jobs: Sequence[str], tell: Tell | None = None) -> dict[str, QueuedJob]:
    """Name to what the scheduler knows of these jobs and their elements, in one call. Forgotten ones are missing.

    tell: who is told of waiting for an answer; None does not wait. Raises SchedulerError when there is none.
    """
    if not jobs:
        return {}
    listing = f"--jobs={','.join(jobs)}"
    command = ["squeue", "--noheader", "--array", "--states=all", listing, "--format=%i|%T|%r|%M|%N|%E"]
    try:
        text = _patiently(command, tell) if tell else _call(command)
    except SchedulerError as error:
        if "Invalid job id" in str(error):  # it has forgotten all of them
            return {}
        raise
    found = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 6:  # anything else is a banner
            found[fields[0]] = QueuedJob(*fields)
    return found


def limits(partition: str | None) -> Limits:
    """Of a partition, or of the default one. Raises SchedulerError."""
    lines = [
        line.strip().split("|")
        for line in _call(["sinfo", "--noheader", "--format=%P|%l|%m"]).splitlines()
        if line.count("|") == 2
    ]
    wanted = [
        (time, memory)
        for name, time, memory in lines
        if (name.endswith("*") if partition is None else name.rstrip("*") in partition.split(","))
    ]
    times = [seconds_of_limit(time) for time, _ in wanted]
    return Limits(
        megabytes=max(
            (int(size[1]) for _, memory in wanted if (size := re.fullmatch(r"([0-9]+)\+?", memory))),
            default=None,
        ),
        seconds=None if None in times else max((time for time in times if time), default=None),
    )


def seconds_of_limit(text: str) -> int | None:
    """Seconds of sinfo's `1-00:00:00`, `10:00` or `infinite` (None)."""
    with contextlib.suppress(ValueError):
        return seconds_of(text)
    return None


def cancel(jobs: Iterable[str], tell: Tell) -> None:
    """Cancel jobs that the scheduler knows, with all their elements, in one call."""
    if ids := sorted(set(jobs)):
        _patiently(["scancel", *ids], tell)


def _call(command: Sequence[str], both: bool = False) -> str:
    """What a command prints; `both`: as an error, too. Raises SchedulerError with what it complained of."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it half way
            env=_environment(),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SchedulerError(
            f"there is no {command[0]} on this machine; run on a login node of the cluster, or with --executor local"
        ) from error
    except OSError as error:
        raise SchedulerError(f"{command[0]} cannot be run: {error.strerror}; ask who installed it") from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(f"{command[0]}: timed out after {PATIENCE:.0f} s") from error
    said, complained = (COLOUR.sub("", text) for text in (done.stdout, done.stderr))
    if done.returncode:
        complaint = " ".join(line.removeprefix(f"{command[0]}: error: ") for line in complained.splitlines())
        raise SchedulerError(f"{command[0]}: {complaint or f'exit code {done.returncode}'}")
    return said + (complained if both else "")


def _environment() -> dict[str, str]:
    """Of a call; within a job, without what is said there about the job itself."""
    within = "SLURM_JOB_ID" in os.environ
    own = {
        name
        for name in os.environ
        if name.startswith("SBATCH_")  # would say otherwise than the script
        or (within and name.startswith("SLURM_") and name not in KEPT_WITHIN_JOBS)
    }
    return {name: value for name, value in os.environ.items() if name not in own} | {"LC_ALL": "C"}


def _patiently(command: Sequence[str], tell: Tell, accepted: Callable[[], str | None] | None = None) -> str:
    """Call again and again while there is no answer.

    accepted: finds what an unanswered call has done after all; without an answer to that, the call is not repeated.
    """
    unanswered = False
    for wait in (*WAITS, None):
        try:
            if unanswered and accepted:
                if found := accepted():
                    return found
                time.sleep(SETTLING)  # what it heard before it fell silent it may do only now
                if found := accepted():
                    return found
            unanswered = True
            return _call(command)
        except SchedulerError as error:
            if not any(text in str(error) for text in NO_ANSWER):
                raise SchedulerError(f"{error}; {_mend(str(error))}") from error
            if wait is None:
                raise NoAnswerError(
                    f"{error}; the scheduler did not answer {len(WAITS) + 1} times. Give the command again when "
                    "`scontrol ping` says UP"
                ) from error
            tell(f"{command[0]} gets no answer ({error}); trying again in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("unreachable")


def _mend(complaint: str) -> str:
    for word, mend in MENDS.items():
        if word in complaint.lower():
            return mend
    return "correct the cluster profile (--cluster), `ghosttrack doctor` looks for more"


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the end of the context, so that what was done is also recorded."""
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
