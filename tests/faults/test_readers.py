"""Commands that look at a run while another process cleans or releases it: at each of their looks all may be gone."""

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import GhostTrackError
from ghosttrack.orchestrate import options
from ghosttrack.orchestrate.cli import ghosttrack
from tests.fake_project import FakeProject
from tests.faults.conftest import SEED, Tally, budget

COMMANDS = (
    "status",
    "plan",
    "why sink",
    "verify --deep",
    "du",
    "advice",
    "gc --yes",
    "clean",
    "logs",
    "logs --raw",
)
GOES = {
    "all of it": ["*"],
    "results": [".store/source", ".store/layers", ".store/sink"],
    "pointers": [".store/current"],
    "public names": ["data", "models", "results"],
    "logs": ["runs"],
    "records": [".store/staging", ".store/claims", ".store/attempts", ".store/verified", ".store/temporary"],
}


class World:
    """A root of which something goes just before the n-th look into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.looks, self.at, self.goes, self.busy = 0, -1, [""], True

    def look(self, path: Any) -> None:
        if self.busy or not isinstance(path, (str, os.PathLike)) or not str(path).startswith(str(self.root)):
            return
        self.busy = True
        if self.looks == self.at:
            for place in (place for name in self.goes for place in sorted(self.root.glob(name))):
                shutil.rmtree(place) if place.is_dir() else place.unlink()
        self.looks += 1
        self.busy = False

    def during(self, work: Callable[[], object], at: int = -1, goes: list[str] | None = None) -> int:
        """Looks that the work took."""
        self.looks, self.at, self.goes, self.busy = 0, at, goes or [], False
        try:
            work()
        finally:
            self.busy = True
        return self.looks


@pytest.fixture
def world(finished: FakeProject, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(finished.root)
    events = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.rmdir")
    sys.addaudithook(lambda event, arguments: world.look(arguments[0]) if event in events else None)

    def seen(real: Callable[..., object]) -> Callable[..., object]:
        def looking(path: Any, *others: Any, **more: Any) -> object:
            world.look(path)
            return real(path, *others, **more)

        return looking

    for name in ("stat", "lstat", "readlink"):  # which have no audit event
        monkeypatch.setattr(os, name, seen(getattr(os, name)))
    return world


@pytest.mark.parametrize("command", COMMANDS)
def test_what_goes_while_a_command_looks_is_no_traceback(
    world: World,
    finished: FakeProject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    tally: Tally,
) -> None:
    """It is as if it had gone before or after, or one clear error."""
    request = finished.request()
    monkeypatch.setattr(options.Request, "of", classmethod(lambda cls, *_, **__: request))
    name, *others = command.split()
    left = finished.root / ".store/staging/small/sink/all" / ("0" * 64)
    left.mkdir(parents=True)
    saved = shutil.copytree(finished.root, tmp_path / "saved", symlinks=True)

    def call() -> None:
        try:
            CliRunner().invoke(ghosttrack, [name, "small", *others], catch_exceptions=False)
        except GhostTrackError:
            pass
        except Exception as error:
            if storage_error(error) is None:
                raise

    def again() -> None:
        shutil.rmtree(finished.root)
        shutil.copytree(saved, finished.root, symlinks=True)

    total = world.during(call)
    assert total > 5
    chance = random.Random(f"{SEED} {command}")
    for what, goes in GOES.items():
        for at in sorted(chance.sample(range(total), min(total, budget(3, 100)))):
            again()
            world.during(call, at, goes)
            tally(f"gone at a look: {what}", True)
