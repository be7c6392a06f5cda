"""What a unit's work took: seconds, processor time, memory, of one process or of several together."""

import resource
import sys


def cpu_seconds() -> float:
    """Of this process and of the children that it has waited for, since they began."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def resource_usage(elapsed: float, cpu: float) -> dict[str, float | None]:
    """Of one process on one unit. maxRSS: bytes, the most since the process began."""
    scale = 1 if sys.platform == "darwin" else 1024
    gpu = None
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        gpu = float(torch.cuda.max_memory_allocated())
    return {
        "elapsedSec": round(elapsed, 3),
        "cpuSec": round(cpu, 3),
        "maxRSS": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale),
        "gpuPeakBytes": gpu,
    }


def together(usages: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Of the processes that did a unit together: the longest time, and the sum of all that they used."""
    known = {name: [value for usage in usages if (value := usage[name]) is not None] for name in usages[0]}
    total = {name: sum(values) if values else None for name, values in known.items()}
    return total | {"elapsedSec": max(known["elapsedSec"])}
