"""A project without science that is submitted to the test cluster."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.slurm.submit import SlurmExecutor
from ghosttrack.orchestrate.submission import Submission, read_submission
from tests.conftest import write_small_config
from tests.fake_project import CONTRACTS, FakeProject
from tests.slurm.cluster import Cluster

HEADS = """
    stage: heads
    phase: 2
    version: 1
    summary: Follows each layer.
    gpu: false
    units:
      - name: "layer_{layer}"
        reads: {"layers/layer_{layer}": ["layer_{layer}.txt"]}
        parameters: [seed]
        folder: models/heads/{name}
        writes: ["head_{layer}.txt"]
"""
SINK = CONTRACTS["sink"].replace('"layers/layer_{layers}": ["layer_{layers}.txt"]',
                                 '"heads/layer_{layers}": ["head_{layers}.txt"]').replace("phase: 2", "phase: 3")  # fmt: skip


class Run:
    """A fake project that is submitted."""

    def __init__(self, folder: Path, cluster: Cluster, name: str = "small", **profile: object) -> None:
        self.project = FakeProject(
            folder, write_small_config(folder, name), CONTRACTS | {"heads": HEADS, "sink": SINK}
        )
        self.slurm = cluster
        self.profile = folder / "site.yaml"
        settings = {"resources": {"default": {"cpus": 1, "memory": "1G", "time": "0:10:00"}}, **profile}
        self.profile.write_text(yaml.safe_dump(settings))

    def request(self, *overrides: str) -> Request:
        return self.project.request(*overrides, cluster=str(self.profile))

    def submit(self, *overrides: str) -> Submission:
        request = self.request(*overrides)
        SlurmExecutor(Terminal()).submit(request, request.plan())
        return self.submission()

    def submission(self) -> Submission:
        found = read_submission(self.request().folder)
        assert found
        return found

    def job(self, link: str) -> str:
        [job] = [job.job_id for job in self.submission().jobs if job.link == link]
        return job

    def states(self) -> dict[str, str]:
        """Job to state, where it is stuck to that."""
        known = scheduler.queue(self.submission().job_ids, print)
        return {name: job.reason if job.stuck else job.state for name, job in known.items()}

    def wait(self, check: Callable[[], bool]) -> None:
        self.slurm.wait(check)

    def wait_for_end(self) -> None:
        """Until nothing runs or may still run."""

        def over() -> bool:
            known = scheduler.queue(self.submission().job_ids, print).values()
            return scheduler.are_blocked(known) or not any(job.active for job in known)

        self.wait(over)

    def stale(self) -> list[str]:
        return [planned.unit.label for planned in self.request().plan().stale]


def run_command(run: Run, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    return start_command(run, *arguments, path=path, wait=True)


def start_command(  # type: ignore[no-untyped-def]
    run: Run, command: str, *, path: str = "", wait: bool = False, python: str = sys.executable, **others: Any
):
    """The real command line, on the stages of the fake project. others: of subprocess, such as the user."""
    program = f"""
import pathlib, sys
import ghosttrack.orchestrate.request
of = ghosttrack.orchestrate.request.Request.of.__func__
def of_fake(cls, *arguments, **options):
    return of(cls, *arguments, **options, stages_folder=pathlib.Path({str(run.project.stages)!r}))
ghosttrack.orchestrate.request.Request.of = classmethod(of_fake)
sys.argv = ["ghosttrack", {command!r}, {str(run.project.config_file)!r}, "--cluster", {str(run.profile)!r}]
sys.argv += ["--executor", "slurm"] if {command!r} in ("run", "rerun") else []
from ghosttrack.orchestrate.cli import main
main()
"""
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    options = {
        "env": environment,
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **others,
    }
    if wait:
        return subprocess.run([python, "-c", program], check=False, **options)  # type: ignore[call-overload]
    return subprocess.Popen([python, "-c", program], **options)  # type: ignore[call-overload]
