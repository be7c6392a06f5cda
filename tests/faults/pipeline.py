"""A small pipeline whose units write in all the ways that real ones do: text, tables, arrays, tensors, in steps, as a folder."""

import functools
import json
import os
import shutil
import socket
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contained import VARIABLE
from ghosttrack.common.engine.contract import Unit, expand, load_contract
from ghosttrack.common.engine.stage import Job, run_stage
from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.plan import Plan, make_plan
from ghosttrack.orchestrate.publisher import Publisher
from tests.conftest import write_small_config

CONTRACTS = {
    "upper": """
    stage: upper
    phase: 0
    version: 1
    summary: A folder, and files of every kind.
    gpu: false
    units:
      - name: folder
        parameters: [seed]
        folder: data/{name}/folder
        writes: ["*"]
      - name: all
        parameters: [seed]
        folder: data/{name}
        writes: [text.jsonl, table.parquet, array.npy, tensors.pt, weights.safetensors]
    """,
    "lower": """
    stage: lower
    phase: 1
    version: 1
    summary: A file a layer, in steps.
    gpu: false
    units:
      - name: "layer_{layer}"
        reads: {upper/all: [text.jsonl, array.npy], upper/folder: ["*"]}
        parameters: [sae.d_hidden]
        folder: results/{name}
        writes: ["layer_{layer}.txt", "layer_{layer}.npy"]
    """,
}


def write_upper(job: Job) -> dict[str, Any]:
    if job.unit == "folder":
        job.output("config.json").write_text(json.dumps({"seed": job.config.seed}))
        temporary = job.output("words.tmp")
        temporary.write_text("a b c")
        temporary.rename(job.output("words.txt"))
        return {}
    numbers = np.arange(200, dtype=np.float32)
    job.output("text.jsonl").write_text("\n".join(json.dumps({"n": n}) for n in range(20)))
    pq.write_table(pa.table({"n": numbers}), job.output("table.parquet"))
    mapped = np.lib.format.open_memmap(job.output("array.npy"), mode="w+", dtype=np.float32, shape=(200,))
    mapped[:] = numbers
    mapped.flush()
    torch.save({"n": torch.from_numpy(numbers.copy())}, job.output("tensors.pt"))
    save_file({"n": torch.from_numpy(numbers.copy())}, job.output("weights.safetensors"))
    return {"n": 200}


def write_lower(job: Job) -> dict[str, Any]:
    lines = job.input("text.jsonl").read_text().splitlines()
    for step in range(2):

        def part(step: int = step) -> None:
            file = job.scratch(f"part_{step}.txt")
            file.with_suffix(".new").write_text(lines[step])
            file.with_suffix(".new").rename(file)

        job.step(f"part_{step}", part)
    unfinished = job.output(f"layer_{job.layer}.txt.tmp")  # as writers do that rename
    unfinished.write_text("".join(job.scratch(f"part_{step}.txt").read_text() for step in range(2)))
    unfinished.rename(job.output(f"layer_{job.layer}.txt"))
    np.save(job.output(f"layer_{job.layer}.npy"), np.load(job.input("array.npy")) * float(job.layer or 0))
    return {}


RUNS: dict[str, Callable[[Job], dict[str, Any]]] = {"upper": write_upper, "lower": write_lower}


class Pipeline:
    """The pipeline in a folder; `work` gives what a forked process does."""

    def __init__(self, folder: Path) -> None:
        self.config = write_small_config(folder)
        self.root = folder / "root"
        self.store = Store(str(self.root))
        self.folders = {}
        for name, contract in CONTRACTS.items():
            self.folders[name] = folder / "stages" / name
            self.folders[name].mkdir(parents=True)
            (self.folders[name] / "contract.yaml").write_text(textwrap.dedent(contract))

    def stage(self, stage: str) -> int:
        """Run a stage's command line in this process; its exit code."""
        sys.argv = ["x", "--config", str(self.config)]
        sys.modules[f"stages.{stage}.run"] = types.SimpleNamespace(run=RUNS[stage])  # type: ignore[assignment]
        try:
            run_stage(str(self.folders[stage] / "__main__.py"))
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    def contained(self, stage: str) -> int:
        """The same by way of a publisher, as a stage in a container does; both of them in this process, for good."""
        door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.dup2(theirs.fileno(), 0)
        os.environ[VARIABLE] = "1"
        publisher = Publisher(self.store, [unit for unit in self.units if unit.stage == stage])
        threading.Thread(target=publisher.accept, args=(door,), daemon=True).start()
        return self.stage(stage)

    def both(self) -> int:
        """The exit code of the first stage that fails, or 0."""
        return self.stage("upper") or self.stage("lower")

    def work(self, stage: str, way: str = "plain") -> Callable[[], int]:
        return functools.partial(self.contained if way == "contained" else self.stage, stage)

    @property
    def units(self) -> list[Unit]:
        config = load_config(str(self.config))
        return [unit for folder in self.folders.values() for unit in expand(load_contract(folder), config)]

    def plan(self) -> Plan:
        contracts = [load_contract(folder) for folder in self.folders.values()]
        return make_plan(load_config(str(self.config)), contracts)

    def public(self) -> dict[str, bytes]:
        """Public files and their bytes, manifests and links in the making left out."""
        found = {}
        for folder, _, names in os.walk(self.root, followlinks=True):
            place = Path(folder)
            if ".store" in place.relative_to(self.root).parts:
                continue
            for name in names:
                if "manifest.json" not in name and not name.startswith("."):
                    found[(place / name).relative_to(self.root).as_posix()] = (place / name).read_bytes()
        return found

    def litter(self) -> list[str]:
        """What a finished run must not leave: hidden names where somebody looks, claims that seem to be held.

        Work in progress that was abandoned may be there: `ghosttrack gc` finds it.
        """
        hidden = [
            path
            for top in ("data", "results")
            for path in (self.root / top).rglob(".*")
        ]  # fmt: skip
        current = [path for path in (self.root / ".store/current").rglob("*") if path.name.startswith(".")]
        return [*map(str, (*hidden, *current)), *(label for label, _ in self.store.at_work())]

    def whole(self) -> bool:
        """Whether all that is published verifies."""
        for unit in self.units:
            if entry := self.store.current(unit.config_name, unit.stage, unit.name):
                self.store.verify(entry, deep=True)
        return True

    def restore(self, saved: Path) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(saved, self.root, symlinks=True)
