"""The dashboard as `ghosttrack serve` sends it, in a real Chromium."""

from collections.abc import Iterator

import pytest

from ghosttrack.api.serving import Dashboard
from ghosttrack.common.config.load import load_config
from tests.api.test_serving import serving
from tests.browser.chromium import Chromium
from tests.stages.report import synthetic

pytestmark = pytest.mark.browser

TRACKS = 30
"""Of a position: more than are drawn at first."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    root = tmp_path_factory.mktemp("served")
    synthetic.ask(synthetic.make_run(root, "demo", tracks=TRACKS), "demo")
    yield from serving(load_config("demo", [f"paths.root={root}"], environ={}))


@pytest.fixture
def page(browser: Chromium, server: Dashboard) -> Chromium:
    browser.console.clear()
    browser.call("Page.navigate", url=server.address)
    browser.wait(
        "document.documentElement.dataset.ready && document.documentElement.dataset.served !== undefined"
    )
    return browser


def test_every_page_opens_and_every_track_can_be_drawn(page: Chromium) -> None:
    for fragment in ("#/overview", "#/results", "#/latents", "#/sae/2", "#/ask", "#/questions"):
        page.go(fragment)
        assert "cannot be shown" not in page.text()
    page.go("#/question/currency%2Fland%201")
    lanes = "document.querySelectorAll('svg.trajectory:not(.small) .lane').length"
    assert page.run(lanes) == 20
    page.run(
        "[...document.querySelectorAll('button.more')].find(each => each.textContent.includes('30 tracks')).click()"
    )
    assert page.run(lanes) == TRACKS
    assert page.run("document.querySelectorAll('form.takeout option').length") == TRACKS
    page.go("#/latent/2/3")
    page.wait("!document.body.innerText.includes('is being counted')")
    assert "Its tracks go on to" in page.text()
    assert page.console == []


def test_new_questions_are_a_filter_with_their_risk(page: Chromium) -> None:
    page.go("#/questions?outcome=new")
    assert page.run("document.querySelectorAll('table.questions tbody tr').length") == 3
    page.go("#/question/new%3Acurrency%2Fland%201")
    assert "unlike all that the detector was fitted on" in page.text()
    assert "probability 0.250" in page.text()
    assert "risk 0.100" in page.run("document.querySelector('.answertokens').innerText")
    assert page.console == []


def test_what_the_server_refuses_is_said_beside_the_form(page: Chromium) -> None:
    page.go("#/ask")
    page.run(
        "document.getElementById('ask').value = 'Who?'; document.querySelector('form.ask').requestSubmit()"
    )
    page.wait("document.querySelector('form.ask + p').textContent.includes('ghosttrack run demo')")


def test_without_its_token_nothing_is_shown(browser: Chromium, server: Dashboard) -> None:
    browser.call("Page.navigate", url=server.address.split("?")[0])
    browser.wait("document.body.innerText.includes('has printed')")
    browser.console.clear()
