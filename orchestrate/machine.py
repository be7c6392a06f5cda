"""What the arithmetic will be done on: this machine, or those that a cluster profile asks for."""

import subprocess
from dataclasses import dataclass

import psutil

from ghosttrack.common.config.cluster import ClusterProfile, bytes_of
from ghosttrack.common.engine.contract import load_contracts


@dataclass(frozen=True)
class Machine:
    memory: float
    """Bytes that are free where the arithmetic is done."""
    gpu: bool


def machine_of(profile: ClusterProfile) -> Machine:
    """This machine, or those of the profile where it asks for GPUs."""
    free = float(psutil.virtual_memory().available)
    resources = [profile.resources_of(contract.stage) for contract in load_contracts() if contract.gpu]
    asked = max((each.gpus for each in resources), default=0)
    cards = _gpu_memory()
    if cards or not asked:
        return Machine(min(cards) if cards else free, bool(cards))
    return Machine(bytes_of(min(each.memory for each in resources)), True)


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
