"""The dashboard in a real Chromium: what a user sees and does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stages.report.results import Results
from tests.browser.chromium import Chromium
from tests.stages.report.synthetic import MARKUP

pytestmark = pytest.mark.browser

QUESTION = "#/question/currency%2Fland%201"
EVERY_PAGE = [
    "#/overview",
    "#/results",
    "#/results?split=relations",
    "#/questions",
    "#/sae",
    "#/sae/2",
    QUESTION,
]


def test_every_page_opens_without_errors_and_without_the_network(page: Chromium) -> None:
    for fragment in EVERY_PAGE:
        page.go(fragment)
        assert "cannot be shown" not in page.text()
        assert page.run("document.querySelector('#content h2').textContent")
    assert page.console == []
    assert all(url.startswith("file:") or url == "about:blank" for url in page.requests())


def test_every_number_shown_is_the_one_in_its_file(page: Chromium, made_up: Results) -> None:
    seen = set()
    for fragment in ["#/overview", "#/results", "#/results?split=relations", "#/sae", "#/sae/2"]:
        page.go(fragment)
        for number in numbers(page):
            file, _, pointer = number["source"].partition("#")
            place = {"final_report.json": "evaluate/all", "sae_quality.json": "sae_train/quality"}[file]
            assert_shown(number, look_up(made_up.json(place, file), pointer))
            seen.add(number["source"])
    assert len(seen) > 200
    report = made_up.json("evaluate/all", "final_report.json")
    for i in range(len(report["splits"][0]["methods"])):
        kind = report["splits"][0]["methods"][i]["kind"]
        assert kind == "early" or f"final_report.json#/splits/0/methods/{i}/figures/auroc" in seen


def test_every_score_of_a_question_is_the_one_in_its_file(page: Chromium, made_up: Results) -> None:
    scores = {
        record["id"]: record
        for record in made_up.json("detect/all", "hallucination_scores.json")["questions"]
    }
    page.go("#/questions")
    shown = numbers(page)
    page.go(QUESTION)
    shown += numbers(page)
    assert len(shown) >= len(scores)
    for number in shown:
        assert_shown(number, scores[number["source"].partition("#")[2]][number["key"]])


def numbers(page: Chromium) -> list[dict[str, Any]]:
    return page.run(
        "[...document.querySelectorAll('[data-source]')].map(e => ({source: e.dataset.source, key: e.dataset.key, "
        "digits: Number(e.dataset.digits), percent: e.hasAttribute('data-percent'), text: e.textContent}))"
    )


def look_up(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def assert_shown(number: dict[str, Any], value: Any) -> None:
    """A figure must stand with its interval, every number rounded right."""
    wanted = [value["value"], value["low"], value["high"]] if isinstance(value, dict) else [value]
    found = [
        float(text.replace("−", "-").replace(",", ""))
        for text in re.findall(r"[−+]?\d[\d,]*\.?\d*", number["text"].replace(", ", " ; "))
    ]
    assert len(found) == len(wanted), number
    scale = 100 if number["percent"] else 1
    for text, exact in zip(found, wanted, strict=True):
        assert abs(text - exact * scale) <= 0.5000001 * 10 ** -number["digits"], (number, exact)


def test_search_finds_and_a_click_shows_the_trajectory(page: Chromium) -> None:
    page.go("#/questions")
    page.press("/", 191)
    assert page.run("document.activeElement.id") == "find"
    page.call("Input.insertText", text="land 13")
    page.wait("document.querySelectorAll('table.questions tbody tr').length === 1")
    assert "find=land+13" in page.run("location.hash")
    page.run("document.querySelector('table.questions tbody a').click()")
    page.wait("document.querySelectorAll('svg.trajectory .lane').length > 5")
    assert page.run("document.querySelectorAll('svg.trajectory.small').length") == 2
    assert "of land 13 is" in page.text()


def test_filters_agree_with_the_answers(page: Chromium, made_up: Results) -> None:
    records = made_up.lines("track/answers", "generations.jsonl")
    for outcome, label in (("wrong", 1), ("right", 0), ("out", None)):
        page.go(f"#/questions?outcome={outcome}")
        assert page.run("document.querySelectorAll('table.questions tbody tr').length") == sum(
            r["label"] is label or r["label"] == label for r in records
        )


def test_a_link_to_a_feature_leads_back_to_its_questions(page: Chromium) -> None:
    page.go(QUESTION)
    target = page.run("document.querySelector('a[href^=\"#/feature\"]').getAttribute('href')")
    page.go(target)
    text = page.text()
    for heading in ("Promotes", "Suppresses", "Where it is most active in the corpus", "Neighbours"):
        assert heading in text
    assert page.run("document.querySelectorAll('mark').length") >= 1
    back = page.run("document.querySelector('a[href^=\"#/question/\"]').getAttribute('href')")
    page.go(back)
    assert page.run("document.querySelector('svg.trajectory') !== null")


def test_trajectory_shows_what_the_tables_have(page: Chromium, made_up: Results) -> None:
    import pyarrow.parquet as pq

    nodes = pq.read_table(made_up.path("track/all", "tracks.parquet")).to_pandas()
    page.go(QUESTION + "?position=1")
    cell = nodes[(nodes.question == 1) & (nodes.position == 1)]
    assert page.run("document.querySelector('.choices [aria-current]').textContent").startswith("␣")
    lanes = page.run(
        "[...document.querySelectorAll('svg.trajectory:not(.small) .lane')].map(e => e.dataset.track)"
    )
    assert sorted(map(int, lanes)) == sorted(cell.track.unique())
    for track, rows in cell.groupby("track"):
        label = page.run(
            f"document.querySelector('svg.trajectory:not(.small) .lane[data-track=\"{track}\"]').getAttribute('aria-label')"
        )
        assert f"layers {rows.layer.min()} to {rows.layer.max()}" in label
        peak = rows.loc[rows.effect.abs().idxmax()]
        assert float(label.split("largest effect ")[1].split(" ")[0].replace("−", "-")) == pytest.approx(
            peak.effect, abs=6e-4
        )
        assert float(label.split("strongest activation ")[1].split(" ")[0]) == pytest.approx(
            rows.activation.max(), abs=6e-4
        )


def test_markup_in_texts_is_shown_and_never_run(page: Chromium) -> None:
    for fragment in (
        "#/questions",
        "#/question/capital%2Fland%200",
        "#/question/capital%2Fland%200?position=1",
        "#/feature/0/0",
    ):
        page.go(fragment)
        assert page.run("window.hacked === undefined")
        assert page.run("document.querySelectorAll('#content img, #content script').length") == 0
    page.go("#/question/capital%2Fland%200")
    assert MARKUP in page.run("document.querySelector('h2').textContent")
    assert page.console == []


def test_links_are_stable_and_unknown_ones_are_answered(page: Chromium) -> None:
    page.go("#/question/nowhere")
    assert "no question nowhere" in page.text()
    page.go("#/feature/0/99999")
    assert "in none of the tracks" in page.text()
    page.go("#/nonsense")
    assert "There is no page nonsense" in page.text()
    page.go("#/question/100%")
    assert "There is no page #/question/100%" in page.text()
    assert page.console == []


def test_every_link_of_a_file_with_little_room_leads_to_a_page(browser: Chromium, tmp_path: Any) -> None:
    from stages.report.dashboard.build import build
    from tests.stages.report.synthetic import make_run

    make_run(tmp_path, questions=4, positions=3, tracks=10, latents=24)
    file = tmp_path / "small.html"
    file.write_text(build(Results.open(str(tmp_path), "made-up"), limit=400e3))
    browser.console.clear()
    browser.open(file)
    wanted, seen = ["#/overview", *EVERY_PAGE[:-1]], set()
    while wanted:
        fragment = wanted.pop()
        if fragment in seen:
            continue
        seen.add(fragment)
        browser.go(fragment)
        text = browser.text()
        assert not any(
            words in text for words in ("Not found", "cannot be shown", "in none of the tracks")
        ), fragment
        wanted += browser.run(
            "[...document.querySelectorAll('a[href^=\"#/\"], a[data-page]')].map(e => e.getAttribute('href'))"
        )
    kinds = [fragment.split("/")[1].split("?")[0] for fragment in seen]
    assert kinds.count("question") >= 4
    assert kinds.count("feature") > 40
    assert browser.console == []


def test_a_broken_address_to_begin_with_still_gives_a_page(browser: Chromium, file: Path) -> None:
    browser.call("Page.navigate", url="about:blank")
    browser.open(file, "#/question/100%")
    assert "There is no page #/question/100%" in browser.text()
    browser.go("#/overview")
    assert "The finding" in browser.text()


def test_it_can_be_used_with_the_keyboard_and_a_screen_reader(page: Chromium) -> None:
    page.press("Tab", 9)
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter", 13)
    assert page.run("document.activeElement.id") == "content"
    assert page.run("location.hash") == ""
    assert "The finding" in page.text()
    page.go(QUESTION)
    page.run("document.querySelector('.lane').focus()")
    first = page.run("document.activeElement.dataset.track")
    page.press("ArrowDown", 40)
    assert page.run("document.activeElement.dataset.track") != first
    nameless = page.run(
        "[...document.querySelectorAll('a, button, input, select, svg[role]')].filter(e => "
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))).length"
    )
    assert nameless == 0
    assert page.run("document.documentElement.lang") == "en"
    assert page.run("document.title").startswith("The currency of land 1 is")


@pytest.mark.parametrize("dark", [False, True])
def test_texts_have_contrast_in_light_and_dark(page: Chromium, dark: bool) -> None:
    page.theme(dark)
    try:
        page.go(QUESTION)
        worst = page.run(CONTRAST)
        assert worst["ratio"] >= 4.5, worst
    finally:
        page.theme(False)


CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const groundOf = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = {ratio: 99};
  for (const e of document.querySelectorAll('p, a, td, th, h2, h3, li, b, span, button, text.tick, text.label, text.lanelabel')) {
    if (!e.textContent.trim() || e.closest('.unseen, .skip')) continue;
    const style = getComputedStyle(e), [a, b] = [light(parse(e instanceof SVGElement ? style.fill : style.color)), light(groundOf(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, what: e.outerHTML.slice(0, 120)};
  }
  return worst;
})()"""


def test_what_a_half_finished_run_lacks_is_named(browser: Chromium, tmp_path: Any) -> None:
    from stages.report.dashboard.build import build
    from tests.stages.report.synthetic import make_run

    make_run(tmp_path, without=["evaluate/all", "detect/all", "track/association"])
    file = tmp_path / "half.html"
    file.write_text(build(Results.open(str(tmp_path), "made-up")))
    browser.console.clear()
    browser.open(file)
    text = browser.text()
    assert "final_report.json" in text
    assert "contexts of features" in text
    assert "ghosttrack run made-up" in text
    for fragment in EVERY_PAGE:
        browser.go(fragment)
    assert browser.run("document.querySelectorAll('svg.trajectory .lane').length") > 5
    assert browser.console == []


def test_scripts_other_than_ours_are_refused(page: Chromium) -> None:
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s); null"
    )
    assert page.run("window.hacked === undefined")
    assert any(
        "Content Security Policy" in line or "content security policy" in line.lower()
        for line in page.console
    ), json.dumps(page.console)
