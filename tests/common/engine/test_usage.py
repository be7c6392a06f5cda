"""What is sampled while work goes on."""

import os
import sys
from pathlib import Path

import pytest

from ghosttrack.common.engine.usage import Sampler, gpu_samples, tree_memory


def test_only_the_gpus_of_the_process_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for nvidia-smi that knows four GPUs and, as that, heeds --id alone."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\nids=0,1,2,3\nfor option; do case $option in --id=*) ids=${option#--id=};; esac; done\n"
        "for id in $(echo $ids | tr , ' '); do echo \"${id}0, 1${id}\"; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(gpu_samples()) == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert gpu_samples() == [(10.0, 11 * 2**20), (30.0, 13 * 2**20)]
    with Sampler() as sampler:
        pass
    assert sampler.usage()["gpuUtilisation"] == 20.0
    assert sampler.usage()["gpuMemoryPeak"] == 13 * 2**20
    assert (sampler.usage()["treePeakMemory"] or 0) > 10e6


def test_without_gpus_there_is_nothing_to_say_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_samples() == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what is shared")
def test_what_forked_processes_share_counts_once() -> None:
    held = bytearray(os.urandom(1 << 20) * 200)
    alone = tree_memory()
    ends = os.pipe()
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            os.read(ends[0], 1)
            os._exit(0)
        children.append(child)
    try:
        together = tree_memory()
    finally:
        os.write(ends[1], b"123")
        for child in children:
            os.waitpid(child, 0)
    assert alone > len(held)
    assert 0.9 * alone < together < alone + len(held) / 2
