"""No page of the dashboard breaks a rule of axe-core, in light on a wide screen and in dark on a phone's."""

import importlib.util
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium
from tests.browser.test_dashboard import EVERY_PAGE
from tests.components import missing

pytestmark = pytest.mark.browser

PAGES = [*EVERY_PAGE, "#/latent/2/3", "#/nowhere"]


@pytest.fixture(scope="module")
def axe() -> str:
    """Its source (`.ci/install-browser` puts it into the environment)."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        missing("browser", "there is no axe-core (.ci/install-browser)")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Chromium) -> list[str]:
    """Rule, and the elements that break it."""
    return page.run(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
        "rule => rule.id + ': ' + rule.nodes.slice(0, 3).map(node => node.target.join(' ')).join(', ')))"
    )


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)])
def test_no_page_breaks_a_rule(page: Chromium, axe: str, width: int, dark: bool) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False
    )
    page.theme(dark)
    try:
        page.run(f"{axe}; null")
        for fragment in PAGES:
            page.go(fragment)
            page.run("for (const each of document.querySelectorAll('details')) each.open = true; null")
            assert violations(page) == [], fragment
            assert page.run("document.documentElement.scrollWidth") <= width, fragment
        assert page.console == []
    finally:
        page.theme(False)
        page.call(
            "Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False
        )


def test_a_page_that_breaks_one_is_found_out(page: Chromium, axe: str) -> None:
    page.run(f"{axe}; null")
    page.go("#/questions")
    page.run(
        "document.querySelector('label.find').replaceWith(document.querySelector('#find')); document.querySelector('#find').removeAttribute('placeholder'); null"
    )
    assert any(rule.startswith("label: #find") for rule in violations(page))
