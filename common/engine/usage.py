"""What a unit's work uses, of one process or of several together: seconds, processor time, memory and GPUs, for its manifest.

Memory of the process and its children, and the GPUs, are sampled by a thread while it goes on, so that it works without the
scheduler's accounting.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import threading
from types import TracebackType

import psutil

INTERVAL = 5.0
"""Seconds between two samples; the GPUs are asked every third time, since that starts a process."""
GPU_EVERY = 3


class Sampler:
    """Use as a context manager; `usage()` afterwards."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._memory = 0.0
        self._utilisation: list[float] = []
        self._gpu_memory = 0.0

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=INTERVAL)

    def usage(self) -> dict[str, float | None]:
        """Peak memory of the process tree in bytes; mean utilisation (0–100) and peak memory of the GPUs, if any."""
        seen = self._utilisation
        return {
            "treePeakMemory": self._memory or None,
            "gpuUtilisation": round(sum(seen) / len(seen), 1) if seen else None,
            "gpuMemoryPeak": self._gpu_memory or None,
        }

    def _watch(self) -> None:
        asks_gpu = shutil.which("nvidia-smi") is not None
        count = 0
        while True:
            self._memory = max(self._memory, tree_memory())
            if asks_gpu and count % GPU_EVERY == 0:
                for utilisation, memory in gpu_samples():
                    self._utilisation.append(utilisation)
                    self._gpu_memory = max(self._gpu_memory, memory)
            count += 1
            if self._stop.wait(INTERVAL):
                return


def tree_memory() -> float:
    """Resident bytes of this process and all that it started; on Linux what several of them share, as forked ones do, counts
    once (proportional set size)."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
    return total


def gpu_samples() -> list[tuple[float, float]]:
    """Utilisation (0–100) and used bytes of each GPU that this process may use; empty where they cannot be asked."""
    return [(busy, memory * 2**20) for busy, memory in ask_gpus("utilization.gpu", "memory.used")]


def ask_gpus(*what: str) -> list[list[float]]:
    """What nvidia-smi says of each NVIDIA GPU that this process may use; empty where it cannot be asked."""
    command = ["nvidia-smi", f"--query-gpu={','.join(what)}", "--format=csv,noheader,nounits"]
    if mine := os.environ.get("CUDA_VISIBLE_DEVICES"):  # nvidia-smi itself looks at all of the machine's
        command.append(f"--id={mine}")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=True, timeout=10
        )
        return [[*map(float, line.split(","))] for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


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
