"""What the work uses while it goes on: memory of the process and its children, and the GPUs.

Sampled by a thread, so that it works without the scheduler's accounting. The figures go into the manifest.
"""

import contextlib
import os
import shutil
import subprocess
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
