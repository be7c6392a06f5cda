"""A cluster profile, `config/clusters/<site>.yaml`: all that is particular to a machine or a site.

Its `config` section replaces values of the model configuration; the rest says how jobs are submitted, what
each stage asks for, and how a container is started there.
"""

import functools
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ghosttrack.common.config.schema import Section

SCALES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""SLURM counts memory in powers of 1024."""


def time_of(seconds: int) -> str:
    """A SLURM time, hours:minutes:seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _as_time(value: object) -> object:
    """YAML 1.1 reads 4:00:00 as a number in base 60."""
    return time_of(value) if isinstance(value, int) and not isinstance(value, bool) else value


Time = Annotated[str, BeforeValidator(_as_time), Field(pattern=r"^(\d{1,5}-)?\d{1,6}:\d\d:\d\d$")]
Memory = Annotated[str, Field(pattern=r"^\d{1,9}(\.\d{1,6})?[KMGT]$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Resources(Section):
    """What a job of a stage asks for. An array's every element asks for as much."""

    cpus: int = Field(4, gt=0)
    """Cores a process's node gives: --cpus-per-task."""
    memory: Memory = "16G"
    """Memory a node: --mem."""
    time: Time = "4:00:00"
    """Time limit, [days-]hours:minutes:seconds."""
    gpus: int = Field(0, ge=0)
    """GPUs a node."""
    gpu_tflops: float = Field(20.0, gt=0)
    """TFLOP/s of one GPU in matrix products, for the hours that the plan predicts."""
    gpu_memory: Memory | None = None
    """Memory of one GPU; null: not known, so that nobody looks whether the model has room."""
    gres: str | None = None
    """--gres where `gpu:<gpus>` is not what the site calls them."""
    nodes: int = Field(1, gt=0)
    """Nodes a job; more than one runs `accelerate launch` on each."""
    processes: int | None = Field(None, gt=0)
    """Processes a node; null takes one a GPU, at least one."""
    partition: str | None = None
    """Another partition than the profile's."""
    qos: str | None = None
    """Another QOS than the profile's."""
    constraint: str | None = None
    """Another constraint than the profile's."""

    @property
    def processes_per_node(self) -> int:
        return self.processes or max(self.gpus, 1)


class RetryConfig(Section):
    """Retry by cause, by a small job that starts when a job has failed."""

    enabled: bool = False
    """Submit the retry job with the chain."""
    attempts: int = Field(2, gt=0)
    """Retries of a chain at most."""
    memory_factor: float = Field(1.5, gt=1)
    """More memory after OUT_OF_MEMORY."""
    time_factor: float = Field(2.0, gt=1)
    """More time after TIMEOUT, where the stage cannot resume."""


class SlurmProfile(Section):
    account: str | None = None
    """--account"""
    partition: str | None = None
    """--partition; null takes the cluster's default."""
    qos: str | None = None
    """--qos"""
    constraint: str | None = None
    """--constraint"""
    reservation: str | None = None
    """--reservation"""
    options: list[str] = Field(default_factory=list)
    """Further `#SBATCH` options, as written there."""
    throttle: int | None = Field(None, gt=0)
    """Elements of an array that run at a time; null: all."""
    grace: int = Field(120, ge=10)
    """Seconds before the time limit at which a job is told to stop and be requeued."""
    kill_on_invalid_dependency: bool = False
    """--kill-on-invalid-dep; some sites forbid it, `ghosttrack cancel` does the same."""
    retry: RetryConfig = Field(default_factory=RetryConfig)


class ClusterProfile(Section):
    """All keys of `config/clusters/<site>.yaml`."""

    free_text: ClassVar[frozenset[str]] = frozenset({"setup"})

    summary: str = ""
    """A line about the machine."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Values that replace the model configuration's, in its sections."""
    executor: Literal["local", "slurm"] | None = None
    """Where stages run; null: slurm where there is an `sbatch`, else local."""
    container: Literal["apptainer", "none"] = "none"
    """Whether stages run in their images."""
    images: str = "stages"
    """Folder of the images `<stage>.sif`."""
    public_key: str | None = None
    """Public key (PEM) that the images' signatures are verified with at submission."""
    binds: list[str] = Field(default_factory=list)
    """Further `--bind` values for containers."""
    modules: list[str] = Field(default_factory=list)
    """Environment modules to load in a job."""
    setup: list[str] = Field(default_factory=list)
    """Shell lines at the start of a job."""
    environment: dict[VariableName, str] = Field(default_factory=dict)
    """Variables of a job's environment."""
    slurm: SlurmProfile = Field(default_factory=SlurmProfile)
    resources: dict[str, Resources] = Field(default_factory=dict)
    """Stage to what its jobs ask for; `default` for the others."""

    def resources_of(self, stage: str) -> Resources:
        return self.resources.get(stage) or self.resources.get("default") or Resources()


def bytes_of(memory: str) -> float:
    """Bytes of a SLURM memory size such as `16G`."""
    return float(memory[:-1]) * SCALES[memory[-1]]


def seconds_of(time: str) -> int:
    """Seconds of a SLURM time such as `1-12:00:00` or `10:00`. Raises ValueError for what is none."""
    days, _, clock = time.rpartition("-")
    seconds = functools.reduce(lambda sum, part: 60 * sum + int(part), clock.split(":"), 0)
    return 86400 * int(days or 0) + seconds
