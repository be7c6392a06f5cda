"""The dashboard in a real Chromium: what a user sees and does."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.origins import BIRTHS
from ghosttrack.common.formats.reasons import REASONS
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.common.formats.token_scores import TOKEN_METRICS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.formats.validation import VALIDATION
from ghosttrack.stages.report.results import Results
from tests.browser.chromium import Chromium
from tests.stages.report.synthetic import MARKUP, WORDS

pytestmark = pytest.mark.browser

QUESTION = "#/question/currency%2Fland%201"
FILES = {file.name: file for file in (REPORT, QUALITY, TOKEN_METRICS, VALIDATION)}
EVERY_PAGE = [
    "#/latents",
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
            assert_shown(number, look_up(made_up.json(FILES[file]), pointer))
            seen.add(number["source"])
    assert len(seen) > 200
    assert {
        f"final_report.json#/splits/0/curves/{kind}/0/{key}/20"
        for kind in ("roc", "precision_recall", "reliability", "risk_coverage")
        for key in ("x", "y", "low", "high")
    } <= seen
    assert {"final_report.json#/permutation/low", "final_report.json#/permutation/high"} <= seen
    assert {f"token_metrics.json#/detector_less/entropy/token_auroc/{i}" for i in range(3)} <= seen
    assert {
        f"validation.json#/changed/0/{kind}/{i}" for kind in ("changed", "control") for i in range(3)
    } <= seen
    report = made_up.json(REPORT)
    for i in range(len(report["splits"][0]["methods"])):
        kind = report["splits"][0]["methods"][i]["kind"]
        assert kind == "early" or f"final_report.json#/splits/0/methods/{i}/figures/auroc" in seen


def test_every_score_of_a_question_is_the_one_in_its_file(page: Chromium, made_up: Results) -> None:
    scores = {record["id"]: record for record in made_up.json(SCORES)["questions"]}
    page.go("#/questions")
    shown = numbers(page)
    page.go(QUESTION)
    shown += numbers(page)
    for number in shown:
        if number["source"].startswith("hallucination_scores.json"):
            assert_shown(number, scores[number["source"].partition("#")[2]][number["key"]])
    keys = [number["key"] for number in shown]
    # the question's own, and the one beside it
    assert keys.count("score") == keys.count("interval") == len(scores) + 2
    assert "threshold" in keys


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
    wanted = (
        [value["value"], value["low"], value["high"]]
        if isinstance(value, dict)
        else value
        if isinstance(value, list)
        else [value]
    )
    found = [
        float(text.replace("−", "-").replace(",", ""))
        for text in re.findall(r"[−+]?\d[\d,]*\.?\d*", number["text"].replace(", ", " ; "))
    ]
    assert len(found) == len(wanted), number
    scale = 100 if number["percent"] else 1
    for text, exact in zip(found, wanted, strict=True):
        assert abs(text - exact * scale) <= 0.5000001 * 10 ** -number["digits"], (number, exact)


def rows_of(page: Chromium, caption: str) -> list[list[str]]:
    """Texts of the cells of a table."""
    return page.run(
        f"[...document.querySelectorAll('table')].find(e => e.caption?.textContent === {json.dumps(caption)})"
        "?.tBodies[0] && [...[...document.querySelectorAll('table')].find(e => e.caption?.textContent === "
        f"{json.dumps(caption)}).tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )


def read_number(text: str) -> float:
    return float(re.sub(r"[%,+]", "", text).replace("−", "-"))


def table_of(made_up: Results, unit: str, file: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(made_up.verified(unit, file)).to_pandas()


ROUNDED = 0.0005001


def test_the_tables_of_a_question_are_those_of_the_files(page: Chromium, made_up: Results) -> None:
    page.go(QUESTION + "?position=1")

    def cell(unit: str, file: str) -> Any:
        table = table_of(made_up, unit, file)
        return table[(table.question == 1) & (table.position == 1)]

    begins = table_of(made_up, "track/account", "origins.parquet").birth
    nodes = cell("track/all", "tracks.parquet").join(begins)
    tracks = rows_of(page, "Tracks at this position")
    assert len(tracks) == nodes.track.nunique()
    for name, _, _, side, _, birth, existence, effect, chain in tracks:
        own = nodes[nodes.track == int(name)].sort_values("layer")
        words = {"moved": "attention", "written": "MLP", "split": "split", "error": "error"}
        assert words[BIRTHS[own.birth.iloc[0]]] in birth
        assert read_number(existence) == pytest.approx(own.existence.max(), abs=ROUNDED)
        peak = own.loc[own.effect.abs().idxmax()]
        assert read_number(effect.split(" ")[0]) == pytest.approx(peak.effect, abs=ROUNDED)
        assert side in (
            "for neither",
            "for the answer given" if peak.effect > 0 else "for its strongest rival",
        )
        shown = re.findall(r"(\d+):(\d+) ([\d.]+)(?: \(([\d.]+)\))?", chain)
        assert [(int(layer), int(latent)) for layer, latent, _, _ in shown] == list(
            zip(own.layer, own.latent, strict=True)
        )
        for i, (_, _, activation, posterior) in enumerate(shown):
            assert float(activation) == pytest.approx(own.activation.iloc[i], abs=ROUNDED)
            assert (posterior == "") == (i == 0)
            assert i == 0 or float(posterior) == pytest.approx(own.posterior.iloc[i], abs=ROUNDED)

    columns = [
        "n_active",
        "births",
        "deaths",
        "association_entropy",
        "error",
        None,
        "rank",
        "logprob",
        "entropy",
    ]
    layers = (
        cell("track/all", "layers.parquet")
        .merge(cell("track/answers", "lens.parquet"), on="layer")
        .set_index("layer")
    )
    shown_layers = rows_of(page, "Layers")
    assert len(shown_layers) == len(layers) == 6
    for layer, *texts in shown_layers:
        for column, text in zip(columns, texts, strict=False):
            if column:
                assert read_number(text) == pytest.approx(layers[column][int(layer)], abs=ROUNDED), column

    candidates = cell("track/answers", "candidates.parquet").sort_values("rank")
    assert [read_number(text) for _, text in rows_of(page, "Candidates")] == pytest.approx(
        candidates.logprob.tolist(), abs=ROUNDED
    )

    score = made_up.json(SCORES)["questions"][1]
    wanted = sorted(score["contributions"].values(), key=lambda value: -abs(value))
    shown_parts = page.run("[...document.querySelectorAll('.contribution')].map(e => e.textContent)")
    assert [read_number(text) for text in shown_parts] == pytest.approx(
        [*wanted, score["rest"], score["intercept"], score["additive_log_odds"]], abs=ROUNDED
    )


def test_the_numbers_of_a_latent_are_those_of_the_files(page: Chromium, made_up: Results) -> None:
    page.go(QUESTION)
    target = page.run("document.querySelector('a[href^=\"#/latent/\"]').getAttribute('href')")
    layer, latent = map(int, target.split("/")[2:])
    page.go(target)
    own = (
        table_of(made_up, "track/association", "latents.parquet")
        .set_index(["layer", "latent"])
        .loc[layer, latent]
    )
    assert (f"F1 {own.label_score:.2f}" in page.text()) == isinstance(own.label, str)
    assert [read_number(text) for text in page.run("[...document.querySelectorAll('.tokens .note')].map(e => e.textContent)")] == pytest.approx([*own.promoted_by, *own.suppressed_by], abs=0.0051)  # fmt: skip
    assert [int(read_number(row[1])) for row in rows_of(page, "Its activations")] == list(own.histogram)
    shaded = page.run("[...document.querySelectorAll('.contexts li')].map(e => [e.querySelector('.text').textContent, e.querySelector('mark').textContent, e.querySelector('mark').className])")  # fmt: skip
    rate, mean = page.run("[...document.querySelectorAll('.cards dd:not(.note)')].map(e => e.textContent)")
    assert read_number(rate) == pytest.approx(100 * own.firing_rate, abs=ROUNDED)
    assert read_number(mean) == pytest.approx(own.mean_activation, abs=ROUNDED)
    contexts = table_of(made_up, "track/association", "excerpts.parquet")
    contexts = contexts[(contexts.layer == layer) & (contexts.latent == latent)].sort_values("rank")
    assert [row[:2] for row in shaded] == [
        [c.before + c.token + c.after, c.token] for c in contexts.itertuples()
    ]
    assert shaded[0][2] == "heat4"
    shown = page.run("[...document.querySelectorAll('.contexts .activation')].map(e => e.textContent)")
    assert [read_number(text) for text in shown] == pytest.approx(contexts.activation.tolist(), abs=ROUNDED)
    nodes = table_of(made_up, "track/all", "tracks.parquet")
    strongest = nodes[(nodes.layer == layer) & (nodes.latent == latent)].groupby("question").activation.max()
    assert [read_number(row[4]) for row in rows_of(page, "Questions")] == pytest.approx(
        strongest.sort_values(ascending=False)[:5].tolist(), abs=ROUNDED
    )
    after = nodes.sort_values(["question", "position", "track", "layer"])
    same = (
        after[["question", "position", "track"]] == after[["question", "position", "track"]].shift(-1)
    ).all(axis=1)
    after = after.assign(
        to_layer=after.layer.shift(-1), to=after.latent.shift(-1), certain=after.posterior.shift(-1)
    )[same]
    for name, _, count, _, posterior in rows_of(page, "Latents after it") or []:
        to_layer, to = map(int, re.findall(r"\d+", name))
        links = after[
            (after.layer == layer)
            & (after.latent == latent)
            & (after.to_layer == to_layer)
            & (after.to == to)
        ]
        assert int(count) == len(links)
        assert read_number(posterior) == pytest.approx(links.certain.mean(), abs=ROUNDED)


def test_what_stages_took_is_what_their_manifests_say(page: Chromium, made_up: Results) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}

    def measure(text: str) -> tuple[float, float]:
        """The amount, and half of the last digit."""
        number, unit = text.split(" ")
        return float(number) * units[unit], 0.5001 * units[unit] * 10.0 ** -len(number.partition(".")[2])

    page.go("#/overview")
    shown = rows_of(page, "What each stage took")
    assert [row[0] for row in shown] == ["prepare", "sae_train", "track", "detect", "evaluate"]
    for stage, count, elapsed, processor, memory, _, size, _ in shown:
        own = [entry.manifest for label, entry in made_up.entries.items() if label.startswith(f"{stage}/")]
        usage = [manifest.predicate.resource_usage for manifest in own]
        assert int(count) == len(own)
        for text, exact in (
            (elapsed, sum(each["elapsedSec"] for each in usage)),
            (processor, sum(each["cpuSec"] for each in usage)),
            (memory, max(each["maxRSS"] for each in usage)),
            (size, sum(subject.size for manifest in own for subject in manifest.subject)),
        ):
            amount, half = measure(text)
            assert amount == pytest.approx(exact, abs=half), (stage, text)


def test_search_finds_and_a_click_shows_the_trajectory(page: Chromium) -> None:
    page.go("#/questions")
    page.press("/", 191)
    assert page.run("document.activeElement.id") == "find"
    page.call("Input.insertText", text="land 13")
    page.wait("document.querySelectorAll('table.questions tbody tr').length === 1")
    assert "find=land+13" in page.run("location.hash")
    page.run("document.querySelector('table.questions tbody a').click()")
    page.wait("document.querySelectorAll('svg.trajectory .lane').length > 5")
    page.wait("document.querySelectorAll('svg.trajectory.small').length === 2")
    assert "of land 13 is" in page.text()
    assert page.run("location.hash").endswith("?find=land+13")


def test_filters_agree_with_the_answers(page: Chromium, made_up: Results) -> None:
    records = made_up.lines(GENERATIONS)
    for outcome, label in (("wrong", 1), ("right", 0), ("out", None)):
        page.go(f"#/questions?outcome={outcome}")
        assert page.run("document.querySelectorAll('table.questions tbody tr').length") == sum(
            r["label"] is label or r["label"] == label for r in records
        )


def test_latents_are_found_by_label_and_layer(page: Chromium, made_up: Results) -> None:
    page.go("#/latents?layer=2")
    latents = table_of(made_up, "track/association", "latents.parquet")
    body = "document.querySelectorAll('main tbody tr').length"
    assert 0 < page.run(body) <= (latents.layer == 2).sum()
    page.run("document.getElementById('find').focus()")
    page.call("Input.insertText", text="w132")
    page.wait(f"{body} > 0 && {body} < 8 && location.hash.includes('find=w132')")
    assert all(
        "w132" in row
        for row in page.run("[...document.querySelectorAll('main tbody tr')].map(e => e.textContent)")
    )


def test_a_link_to_a_latent_leads_back_to_its_questions(page: Chromium) -> None:
    page.go(QUESTION)
    target = page.run("document.querySelector('a[href^=\"#/latent/\"]').getAttribute('href')")
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

    nodes = pq.read_table(made_up.path(TRACKS)).to_pandas()
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


def test_the_picture_of_every_answer_ends_in_that_answer(page: Chromium, made_up: Results) -> None:
    """At the last layer the emitted token leads; a right answer among the candidates is drawn; a lane opens its latent."""
    candidates = table_of(made_up, "track/answers", "candidates.parquet")
    right = 0
    for number, record in enumerate(made_up.lines(GENERATIONS)):
        page.go(f"#/question/{record['id'].replace('/', '%2F').replace(' ', '%20')}?position=0")
        titles = page.run(
            "[...document.querySelectorAll('svg.trajectory:not(.small) title')].map(e => e.textContent)"
        )
        leads = [text for text in titles if re.fullmatch(r"layer \d+: .* leads", text)]
        assert leads[-1] == f"layer 5: ␣{WORDS[record['token_ids'][0] - 1]} leads"
        gold = 1 + WORDS.index(record["gold"])
        own = candidates[(candidates.question == number) & (candidates.position == 0)].token.tolist()
        drawn = page.run(
            "document.querySelector('svg.trajectory:not(.small) [aria-label=area] [fill=\"url(#dots)\"]') !== null"
        )
        assert drawn == (gold in own[1:])
        right += drawn
        text = page.text()
        assert f"the model said {record['answer']}" in text
        assert "Of all candidates, " in text
        assert ("won." in text) == (record["label"] == 1)
    assert right >= 3
    lane = page.run("document.querySelector('svg.trajectory .lane').getAttribute('href')")
    page.run("document.querySelector('svg.trajectory .lane').focus()")
    page.press("Enter", 13)
    page.wait(f"document.getElementById('content').dataset.shown === {json.dumps(lane)}")
    assert "Promotes" in page.text()


def test_what_was_taken_out_and_other_contexts_are_those_of_the_files(
    page: Chromium, made_up: Results
) -> None:
    page.go(QUESTION)
    causes = table_of(made_up, "track/causes", "causes.parquet")
    own, shown = causes[causes.question == 1], rows_of(page, "Tracks taken out")
    for column, place in (("predicted", 1), ("drop", 2), ("control_drop", 3)):
        assert [read_number(row[place]) for row in shown] == pytest.approx(own[column].tolist(), abs=0.0051)
    evidence = table_of(made_up, "track/contexts", "contexts.parquet")
    for hypothesis, (name, *chances) in enumerate(rows_of(page, "Candidate answers by context")):
        rows = evidence[(evidence.question == 1) & (evidence.hypothesis == hypothesis)]
        assert set(rows.text) == {name}
        assert [read_number(text) for text in chances] == pytest.approx(
            np.exp(rows.total).tolist(), abs=0.00056
        )


def test_next_stays_within_the_list_and_back_leads_to_where_one_was(page: Chromium, made_up: Results) -> None:
    wrong = [r["id"] for r in made_up.lines(GENERATIONS) if r["label"] == 1]

    def wait_for(question: str) -> None:
        address = question.replace("/", "%2F").replace(" ", "%20")
        page.wait(
            f"document.getElementById('content').dataset.shown === '#/question/{address}?outcome=wrong'"
        )

    page.wait("document.readyState === 'complete'")
    page.go("#/questions?outcome=wrong")
    page.run("document.body.style.paddingBottom = '2000px'")
    page.run("document.querySelector('table.questions tbody a').click()")
    wait_for(wrong[0])
    for following in wrong[1:4]:
        page.run("[...document.querySelectorAll('.near a')].find(e => e.textContent === 'next →').click()")
        wait_for(following)
    page.go("#/questions?outcome=wrong")
    page.run("window.scrollTo(0, 120)")
    page.wait("history.state?.scroll === 120")
    page.run("document.querySelector('table.questions tbody a').click()")
    wait_for(wrong[0])
    page.run("history.back()")
    page.wait("document.querySelector('table.questions') !== null && window.scrollY === 120")
    page.go("#/questions")
    page.run(
        "[...document.querySelectorAll('th button')].find(e => e.textContent === 'a right answer').click()"
    )
    golds = page.run(
        "[...document.querySelectorAll('table.questions tbody tr')].map(e => e.cells[4].textContent)"
    )
    assert golds == sorted(golds)
    assert page.run("document.querySelector('th[aria-sort=ascending]').textContent") == "a right answer"
    assert "order=gold" in page.run("location.hash")


def test_any_question_stands_beside_another_and_figures_can_be_saved(page: Chromium) -> None:
    page.go(f"{QUESTION}?beside=river%2Fland%202")
    assert page.run("document.querySelectorAll('svg.trajectory.small').length") == 2
    assert "The river of land 2 is" in page.text()
    page.run("document.querySelector('svg.trajectory .lane').setAttribute('aria-label', 'token \\u0016')")
    svg = page.run("(async () => { const make = URL.createObjectURL; let kept; URL.createObjectURL = (blob) => { kept ??= blob; return make(blob); };"
                   " document.querySelector('button.save').click(); await new Promise(r => setTimeout(r, 300)); URL.createObjectURL = make; return kept.text(); })()")  # fmt: skip
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) > 10
    assert re.search(r"fill: url\((&quot;)?#hatch", svg)
    name = "{http://www.w3.org/2000/svg}"
    texts = {"".join(text.itertext()): text for text in root.findall(f"{name}text")}
    left, top, width, height = map(float, root.get("viewBox", "").split())
    # its title, and the legend below it
    assert any(text.startswith("Trajectory of") for text in texts), list(texts)
    assert {"latents on no track", "what the SAE cannot explain", "another candidate"} <= set(texts)
    assert all(left <= float(each.get("x", 0)) < left + width - 20 for each in texts.values())
    assert all(
        top + float(each.get("font-size", 0)) <= float(each.get("y", 0)) < top + height
        for each in texts.values()
    )
    kind = page.run("(async () => { const make = URL.createObjectURL; let kept; URL.createObjectURL = (blob) => { kept = blob; return make(blob); };"
                    " document.querySelectorAll('button.save')[1].click(); await new Promise(r => setTimeout(r, 1500)); URL.createObjectURL = make; return [kept.type, kept.size]; })()")  # fmt: skip
    assert kind[0] == "image/png"
    assert kind[1] > 10_000
    assert page.console == []


def test_a_wrong_answer_opens_at_the_token_at_which_it_parts_from_the_right_one(
    page: Chromium, made_up: Results
) -> None:
    later = [line["id"] for line in made_up.lines(REASONS) if line["position"] == 1]
    assert later
    for id in later:
        record = next(each for each in made_up.lines(GENERATIONS) if each["id"] == id)
        page.go(f"#/question/{id.replace('/', '%2F').replace(' ', '%20')}")
        shown = page.run("document.querySelector('.choices [aria-current]').textContent")
        assert shown.strip("␣") == record["tokens"][0].strip()
        assert f"After “{record['tokens'][0].strip()}”, layer by layer" in page.text()


PAGES_WITH_CHARTS = ["#/overview", "#/results", "#/sae", "#/sae/2", QUESTION, "#/latent/2/3"]


@pytest.mark.parametrize("width", [1400, 390])
def test_charts_have_ink_axes_and_labels_inside_them(page: Chromium, width: int) -> None:
    """Nothing is cut, and no label of an axis lies over another of it."""
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False
    )
    try:
        charts = 0
        for fragment in PAGES_WITH_CHARTS:
            page.go(fragment)
            for chart in page.run(CHARTS):
                charts += 1
                assert chart["ink"] > 0, (fragment, chart)
                assert chart["labels"] > 2, (fragment, chart)
                assert chart["cut"] == [], (fragment, chart)
                assert chart["over"] == [], (fragment, chart)
        assert charts >= 14
    finally:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False
        )


CHARTS = """[...document.querySelectorAll('figure.chart')].map((figure) => {
  const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')].filter((e) => e.textContent.trim());
  const outside = (b) => b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1;
  const over = [...svg.querySelectorAll('[aria-label$="axis tick label"]')].flatMap((axis) => [...axis.querySelectorAll('text')].filter((e, i, all) => {
    const a = e.getBoundingClientRect(), b = all[i + 1]?.getBoundingClientRect();
    return b && a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2;
  }));
  return {title: figure.querySelector('figcaption').textContent, labels: texts.length,
    ink: svg.querySelectorAll('[aria-label=line] path, [aria-label=area] path, [aria-label=bar] rect, [aria-label=rect] rect, [aria-label=dot] circle').length,
    cut: texts.filter((e) => outside(e.getBoundingClientRect())).map((e) => e.textContent), over: over.map((e) => e.textContent)};
})"""


def test_a_chart_says_the_value_under_the_pointer(page: Chromium, made_up: Results) -> None:
    page.go("#/sae")
    first = made_up.json(QUALITY)["layers"][0]
    x, y = page.run(
        "(() => { const box = document.querySelector('figure.chart [aria-label=dot] circle').getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 3, y=y - 3)
    page.wait("document.querySelector('figure.chart [aria-label=tip] text') !== null")
    said = page.run("document.querySelector('figure.chart [aria-label=tip] text').textContent")
    assert page.run("document.querySelector('figure.chart [aria-label=tip]').getAttribute('aria-hidden')")
    assert said.replace("\u200b", " ").split() == f"L0 layer 0, L0 {first['l0']:.3f}".split()


def test_the_charting_library_is_run_once_and_comes_with_the_file(browser: Chromium, file: Path) -> None:
    browser.call("Page.navigate", url="about:blank")
    browser.open(file, "#/sae")
    assert browser.run("typeof Plot.plot") == "function"
    assert browser.run("document.querySelectorAll('head script').length") == 2
    browser.go("#/sae/2")
    assert browser.run("document.querySelectorAll('head script').length") == 2
    assert all(url.startswith("file:") or url == "about:blank" for url in browser.requests())


def test_markup_in_texts_is_shown_and_never_run(page: Chromium) -> None:
    for fragment in (
        "#/questions",
        "#/question/capital%2Fland%200",
        "#/question/capital%2Fland%200?position=1",
        "#/latent/0/0",
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
    page.go("#/latent/0/99999")
    assert "in none of the tracks" in page.text()
    page.go("#/nonsense")
    assert "There is no page nonsense" in page.text()
    page.go("#/question/100%")
    assert "There is no page #/question/100%" in page.text()
    assert page.console == []


def test_every_link_of_a_file_with_little_room_leads_to_a_page(browser: Chromium, tmp_path: Any) -> None:
    from ghosttrack.stages.report.dashboard.build import build
    from tests.stages.report.synthetic import make_run

    make_run(tmp_path, questions=4, positions=3, tracks=10, latents=24)
    file = tmp_path / "small.html"
    file.write_text(build(Results.open(str(tmp_path), "made-up"), limit=620e3))
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
    assert kinds.count("latent") > 40
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


def test_what_is_drawn_can_be_read(page: Chromium) -> None:
    """Pictures say what they show, or a table beside them does; what scrolls can be reached and has a name."""
    page.go(QUESTION)
    labels = page.run(
        "[...document.querySelectorAll('svg.trajectory')].map(e => e.getAttribute('aria-label'))"
    )
    assert len(labels) == 3
    for label in labels:
        assert "table" not in label
        assert re.search(r"The lead changes \d+ times?; at the end ␣\w+ leads", label)
        assert re.search(
            r"\d+ tracks? over 6 layers, \d+ for the answer given, \d+ for its strongest rival, \d+ for neither",
            label,
        )
    page.go("#/results")
    for name in ("ROC", "Precision and recall of wrong answers", "Reliability", "Risk and coverage"):
        assert len(rows_of(page, name)) >= 6
    page.go("#/sae/2")
    assert rows_of(page, "Active latents of a token")
    for fragment in EVERY_PAGE:
        page.go(fragment)
        assert page.run(
            "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.getAttribute('role') === 'region' && e.getAttribute('aria-label'))"
        )


def test_every_header_and_control_has_a_name(page: Chromium) -> None:
    for fragment in EVERY_PAGE:
        page.go(fragment)
        assert page.run("[...document.querySelectorAll('th, button, a, summary, input, select')].filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))).length") == 0, fragment  # fmt: skip


def test_a_narrow_screen_needs_no_scrolling_sideways(page: Chromium) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False)
    try:
        for fragment in EVERY_PAGE:
            page.go(fragment)
            assert page.run("document.documentElement.scrollWidth") <= 390, fragment
        page.go(QUESTION + "?position=0")
        left, right = page.run(
            "(() => { const ends = [...document.querySelectorAll('svg.trajectory:not(.small), svg.trajectory:not(.small) text')]"
            ".map(e => e.getBoundingClientRect()); return [Math.min(...ends.map(e => e.left)), Math.max(...ends.map(e => e.right))] })()"
        )
        assert left >= 0  # its rows' names, and its decision at the right
        assert right <= 390
    finally:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False
        )


def test_pictures_are_drawn_anew_where_the_window_is_made_narrower(page: Chromium) -> None:
    widths = "[...document.querySelectorAll('figure.chart > svg, svg.trajectory:not(.small)')].map(e => Number(e.getAttribute('viewBox').split(' ')[2]))"
    try:
        for fragment in ("#/results", "#/sae/2", QUESTION):
            page.go(fragment)
            page.run("document.querySelector('details').open = true, null")
            before, saved = page.run(widths), page.run("document.querySelectorAll('p.save').length")
            page.call(
                "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False
            )
            page.wait(f"Math.max(...{widths}) < 390")
            assert len(page.run(widths)) == len(before) == saved
            assert page.run("document.querySelectorAll('p.save').length") == saved
            assert page.run("document.querySelector('details').open")  # nothing else is made anew
            page.call(
                "Emulation.setDeviceMetricsOverride",
                width=1400,
                height=1000,
                deviceScaleFactor=1,
                mobile=False,
            )
            page.wait(f"JSON.stringify({widths}) === {json.dumps(json.dumps(before, separators=(',', ':')))}")
    finally:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False
        )


def test_sides_are_told_apart_by_more_than_hue(page: Chromium) -> None:
    page.go(QUESTION)
    for picture in ("svg.trajectory:not(.small)", "svg.trajectory.small"):
        fills = page.run(
            f"Object.fromEntries(['for', 'against', 'right', 'neither'].map(side => [side, [...document.querySelectorAll('{picture} .bandpiece.' + side)].map(e => getComputedStyle(e).fill)]))"
        )
        assert all("#hatch" in fill for fill in fills["against"])
        assert all("#dots" in fill for fill in fills["right"])
        assert not any("url" in fill for side in ("for", "neither") for fill in fills[side])
        assert fills["for"]
        assert fills["against"]
    assert page.run("document.querySelector('#hatch .stripe') !== null")
    legend = page.run("document.querySelector('.legend').textContent")
    assert "said: ␣" in legend
    assert "hatched: strongest wrong rival, " in legend
    assert "what the SAE cannot explain" in legend


@pytest.mark.parametrize("system_is_dark", [False, True])
def test_texts_have_contrast_in_light_and_dark_on_every_page(page: Chromium, system_is_dark: bool) -> None:
    page.theme(system_is_dark)
    try:
        page.go(QUESTION)
        latent = page.run("document.querySelector('a[href^=\"#/latent/\"]').getAttribute('href')")
        grounds = set()
        for dark in (
            system_is_dark,
            not system_is_dark,
            system_is_dark,
        ):  # as it is, after a press, after another
            red = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
            assert (int(red) < 128) == dark
            grounds.add(red)
            for fragment in [*EVERY_PAGE, latent]:
                page.go(fragment)
                worst = page.run(CONTRAST)
                assert worst["ratio"] >= 4.5, (fragment, dark, worst)
            page.run("document.getElementById('theme').click()")
        assert len(grounds) == 2
    finally:
        page.theme(False)


CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const groundOf = (e) => {
    if (!e) return [255, 255, 255];
    const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
    const below = a < 1 ? groundOf(e.parentElement) : [r, g, b];
    return [r, g, b].map((v, i) => a * v + (1 - a) * below[i]);
  };
  let worst = {ratio: 99};
  for (const e of document.querySelectorAll('p, a, td, th, h1, h2, h3, li, b, span, button, dt, dd, mark, caption, figcaption, summary, code, pre, label, input, select, text.tick, text.label, text.lanelabel, .chart text')) {
    if (!e.textContent.trim() || e.closest('.unseen, .skip')) continue;
    const style = getComputedStyle(e), [a, b] = [light(parse(e instanceof SVGElement ? style.fill : style.color)), light(groundOf(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, what: e.outerHTML.slice(0, 120)};
  }
  return worst;
})()"""


def test_what_a_half_finished_run_lacks_is_named(browser: Chromium, tmp_path: Any) -> None:
    from ghosttrack.stages.report.dashboard.build import build
    from tests.stages.report.synthetic import make_run

    make_run(tmp_path, without=["evaluate/all", "detect/all", "track/association"])
    file = tmp_path / "half.html"
    file.write_text(build(Results.open(str(tmp_path), "made-up")))
    browser.console.clear()
    browser.open(file)
    text = browser.text()
    assert "final_report.json" in text
    assert "contexts of latents" in text
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
