"""What was submitted for a run: `runs/<name>/submission.json`, rewritten whole after every job.

Whoever asks later, another terminal or another day, knows from it which jobs belong to the run.
"""

from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ghosttrack.common.config.cluster import Resources
from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.common.files import content_of

FILE = "submission.json"


class SubmissionPart(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class TaskRecord(SubmissionPart):
    """A job, or an element of a job array."""

    index: int | None
    units: list[str]
    """`stage/unit`, in the order in which they run."""


class JobRecord(SubmissionPart):
    """One sbatch call: a job or a job array."""

    link: str
    job_id: str
    tasks: list[TaskRecord]
    dependency: str | None
    script: Path
    resources: Resources
    predicted_seconds: float
    submitted_on: datetime

    def name_of(self, task: TaskRecord) -> str:
        """What the scheduler calls a task: `17`, or `17_4` in an array."""
        return self.job_id if task.index is None else f"{self.job_id}_{task.index}"


class Submission(SubmissionPart):
    name: str
    token: str
    """In every job's comment; tells this submission's jobs from others of the same name."""
    container: str
    cluster: str | None = None
    """The profile's name or path."""
    overrides: list[str] = Field(default_factory=list)
    """`key=value`, as they were given."""
    images: dict[str, str] = Field(default_factory=dict)
    """Stage to the image's sha256."""
    attempt: int = 0
    """Retries by cause that led to this submission."""
    jobs: list[JobRecord] = Field(default_factory=list)
    medic: str | None = None
    """The job that retries by cause, where the profile asks for one."""
    complete: bool = False
    """Whether the whole chain was submitted."""
    cancelled: bool = False
    """Whether `ghosttrack cancel` took it back."""
    earlier: list[JobRecord] = Field(default_factory=list)
    """Jobs of former submissions of this run."""

    @property
    def job_ids(self) -> list[str]:
        """Of all jobs, the one that retries among them."""
        return [*(job.job_id for job in self.jobs), *filter(None, [self.medic])]


def read_submission(folder: Path) -> Submission | None:
    """The record of a run folder, or None where nothing was submitted. Raises CorruptInputError."""
    path = folder / FILE
    try:
        return Submission.model_validate_json(content_of(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CorruptInputError(
            f"{path} cannot be read ({error.error_count()} faults); move it away, and cancel its jobs by hand"
        ) from error


def nothing_submitted(name: str, folder: Path) -> MissingInputError:
    """The error where there is no submission to speak of. name: what the user calls the configuration; folder: the
    run's."""
    return MissingInputError(
        f"{name}: nothing was submitted ({folder} has no record); `ghosttrack run {name} --executor slurm` submits it"
    )


def write_submission(folder: Path, submission: Submission) -> None:
    path = folder / FILE
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = submission.model_dump_json(by_alias=True, indent=1) + "\n"
        atomic.replace(path, content.encode(), path.parent)


class Ending(SubmissionPart):
    """How a job's script ended, written by itself: `jobs/ended/<job>.json`. A job that was killed has none."""

    exit_code: int
    started_on: datetime
    ended_on: datetime
    restarts: int = 0
    node: str = ""

    @property
    def seconds(self) -> float:
        return (self.ended_on - self.started_on).total_seconds()


def read_ending(folder: Path, job: str) -> Ending | None:
    """How a job ended, by its own record; None where there is none that can be read. folder: the run's; job: as the
    scheduler calls it."""
    try:
        return Ending.model_validate_json(content_of(folder / "jobs" / "ended" / f"{job}.json"))
    except (OSError, ValidationError):
        return None


def now() -> datetime:
    return datetime.now(timezone.utc)
