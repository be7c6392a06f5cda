"""What the arithmetic will be done on: this machine, or those that a cluster profile asks for."""

from dataclasses import dataclass

import psutil

from ghosttrack.common.config.cluster import ClusterProfile, bytes_of
from ghosttrack.common.engine.contract import load_contracts
from ghosttrack.common.engine.usage import ask_gpus


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
    if cards := [] if elsewhere else ask_gpus("memory.free"):
        return Machine(min(cards)[0] * 2**20, True)
    if asked:
        said = [bytes_of(each.gpu_memory) for each in asked if each.gpu_memory]
        return Machine(min(said) if len(said) == len(asked) else None, True)
    if elsewhere:
        return Machine(min(bytes_of(each.memory) for each in resources), False)
    return Machine(float(psutil.virtual_memory().available), False)
