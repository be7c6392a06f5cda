"""A real browser, for `pytest -m browser` (`tests/components.py`): Chromium of the distribution (`.ci/install-browser`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ghosttrack.stages.report.dashboard.build import build
from ghosttrack.stages.report.results import Results
from tests.browser.chromium import Chromium, executable
from tests.components import missing
from tests.stages.report.synthetic import make_run


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    if executable() is None:
        missing("browser", "there is no Chromium (.ci/install-browser)")
    with Chromium() as found:
        yield found


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A whole run of random numbers; its first question's texts are markup."""
    root = tmp_path_factory.mktemp("made-up")
    make_run(root)
    return Results.open(str(root), "made-up")


@pytest.fixture(scope="session")
def file(made_up: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "dashboard.html"
    path.write_text(build(made_up), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Chromium, file: Path) -> Chromium:
    """The dashboard, opened anew."""
    browser.console.clear()
    browser.call("Page.navigate", url="about:blank")
    browser.open(file)
    browser.run("localStorage.clear(), delete document.documentElement.dataset.theme")
    return browser
