import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from ghosttrack.common.config.load import ENVIRONMENT_KEYS
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.render import Terminal
from tests.components import asleep
from tests.fake_project import FakeProject
from tests.pipeline import Pipeline, ran


def pytest_configure(config: pytest.Config) -> None:
    """Nothing that whoever runs the tests has set reaches them; their machine may have an sbatch."""
    for variable in ENVIRONMENT_KEYS:
        os.environ.pop(variable, None)
    os.environ["GHOSTTRACK_EXECUTOR"] = "local"
    # Matrices of a few kilobytes are done before a second thread has woken up, and where several processes test side by
    # side, the threads of each wait, spinning, for a core that another one has. Read when torch is first imported.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True, scope="session")
def no_test_ends_pytest() -> Iterator[None]:
    """A stage's `main` ends its process: all tests after it would seem to have passed."""

    def end_after(work: Callable[[], None]) -> None:
        raise AssertionError("a test calls run_stage, whose process goes on, and not main")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ghosttrack.common.engine.stage.end_after", end_after)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take long first, so that workers end together; one that makes the stub run, then those that need none.
    Tests on real components are left out where nobody asks for them."""
    if sleeping := [item for item in items if asleep(item, config.option.markexpr or "")]:
        config.hook.pytest_deselected(items=sleeping)
        items[:] = [item for item in items if item not in sleeping]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    stub = [item.path for item in items if "stub_run" in getattr(item, "fixturenames", ())]
    items.sort(key=lambda item: (item.path not in slow, item.path in stub and item.path != stub[0]))


def write_small_config(folder: Path, name: str = "small", **changes: object) -> Path:
    """Write `<name>.yaml`: a small valid configuration whose root is `folder/root`, with changed sections."""
    settings = {
        "paths": {"root": str(folder / "root")},
        "model": {"base_model": "nowhere", "d_model": 4, "n_layers": 3},
        "sae": {"d_hidden": 8, "target_l0": 2},
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small configuration, with changes: `write_config(sae={"d_hidden": 8})`."""
    return functools.partial(write_small_config, tmp_path)


@pytest.fixture
def project(tmp_path: Path, write_config: Callable[..., Path]) -> FakeProject:
    """Three stages without science, and a configuration for them."""
    return FakeProject(tmp_path, write_config())


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a fake project in which everything has run."""
    folder = tmp_path_factory.mktemp("finished")
    project = FakeProject(folder, write_small_config(folder))
    request = project.request()
    LocalExecutor(Terminal()).submit(request, request.plan())
    project.calls()
    return project.root


@pytest.fixture
def finished(project: FakeProject, finished_root: Path) -> FakeProject:
    """A fake project in which everything has run."""
    project.root.rmdir()
    shutil.copytree(finished_root, project.root, symlinks=True)
    return project


@pytest.fixture(scope="session")
def stub_run(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A pipeline on the miniature model that ran through in one go: once for all processes of pytest. Not to be changed."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    pipeline, done = Pipeline(folder / "stub_run"), folder / "stub_run.done"
    with FileLock(folder / "stub_run.lock"):
        if not done.exists():
            output = pipeline.run()
            assert sorted(ran(output)) == sorted(unit.label for unit in pipeline.units())
            done.touch()
    return pipeline
