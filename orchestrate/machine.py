"""What the arithmetic will be done on: this machine, or those that a cluster profile asks for."""

import subprocess
from dataclasses import dataclass

import psutil

from ghosttrack.common.config.cluster import ClusterProfile, bytes_of
from ghosttrack.common.engine.contract import load_contracts


@dataclass(frozen=True)
class Machine:
    memory: float | None
    """Bytes where the arithmetic is done: of one GPU, or of the machine. None where nobody said."""
    gpu: bool


def machine_of(profile: ClusterProfile) -> Machine:
    """This machine, or those that the profile asks for: what runs elsewhere has nothing to do with what is free here."""
    resources = [profile.resources_of(contract.stage) for contract in load_contracts() if contract.gpu]
    asked = [each for each in resources if each.gpus]
    elsewhere = profile.executor == "slurm"
    if cards := [] if elsewhere else _gpu_memory():
        return Machine(min(cards), True)
    if asked:
        said = [bytes_of(each.gpu_memory) for each in asked if each.gpu_memory]
        return Machine(min(said) if len(said) == len(asked) else None, True)
    if elsewhere:
        return Machine(min(bytes_of(each.memory) for each in resources), False)
    return Machine(float(psutil.virtual_memory().available), False)


def _gpu_memory() -> list[float]:
    """Free bytes of each of this machine's NVIDIA GPUs."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, errors="replace", timeout=10, check=True,
        )  # fmt: skip
        return [float(line) * 2**20 for line in done.stdout.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
