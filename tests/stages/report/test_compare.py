"""The comparison of models: the same numbers as in their files, paired where questions are shared."""

import html
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.errors import ConfigError, CorruptInputError
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.stages.report.compare.facts import Interval, _extract_batch, _transfers, facts_of
from ghosttrack.stages.report.compare.paired import compare_pair
from ghosttrack.stages.report.compare.show import (
    compare_results,
    figure,
    markdown,
    names_of,
    notes,
    page,
    paired,
    parts,
    sparkline,
)
from ghosttrack.stages.report.results import Results
from tests.commands import ghosttrack, python
from tests.stages.report import synthetic
from tests.stages.report.synthetic import make_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_run(root, "small", questions=80)
    make_run(root, "large", questions=80, layers=10, seed=1)
    make_run(root, "elsewhere", questions=40, seed=2, prefix="other/")
    make_run(root, "unfinished", questions=10, without=["evaluate/all", "detect/all", "sae_train/quality"])
    return root


@pytest.fixture(scope="module")
def runs(root):
    return {name: Results.open(str(root), name) for name in ("small", "large", "elsewhere", "unfinished")}


def scores(results):
    return results.json(SCORES)["questions"]


def test_facts_are_those_of_the_files(runs):
    facts, report = facts_of(runs["large"]), runs["large"].json(REPORT)
    main = next(m for m in report["splits"][0]["methods"] if m["name"] == report["detector"])
    assert facts.figures["auroc"]._asdict() == main["figures"]["auroc"]
    assert (facts.layers, facts.width, facts.latents) == (10, 32, 64)
    assert facts.seconds["track"] == pytest.approx(8 * 123.4)
    assert facts.bytes["track"] == sum(
        s.size
        for label, entry in runs["large"].entries.items()
        if label.startswith("track/")
        for s in entry.manifest.subject
    )
    assert [each["depth"] for each in facts.sae] == pytest.approx(np.linspace(0, 1, 10))


def test_detectors_of_other_data_sets_stand_in_a_matrix_from_row_to_column(runs):
    small, large = (facts_of(runs[name]) for name in ("small", "large"))
    assert "Models" in dict(parts([small, large], {}))
    assert not any(title.startswith("From one data set") for title, _ in parts([small, large], {}))
    moved = Interval(value=0.7, low=0.6, high=0.8)
    small = small.model_copy(update={"transfers": {"large": moved, "third": moved}})
    rows = next(rows for title, rows in parts([small, large], {}) if title.startswith("From one data set"))
    shown = "0.700 [0.600, 0.800]"
    own = [figure(facts.figures["auroc"]) for facts in (small, large)]
    assert rows == [
        ["from", "small", "large"], ["small", own[0], "–"], ["large", shown, own[1]], ["third", shown, "–"],
    ]  # fmt: skip


def test_a_transfer_is_read_of_the_report_by_where_its_detector_comes_from(tmp_path):
    make_run(tmp_path, "to", questions=20)
    path = Results.open(str(tmp_path), "to").path(REPORT)
    report = json.loads(path.read_text())
    report["splits"].append({**report["splits"][0], "split": "transfer", "origin": "from"})
    main = next(m for m in report["splits"][0]["methods"] if m["name"] == report["detector"])
    assert _transfers(report) == {"from": Interval(**main["figures"]["auroc"])}
    assert _transfers(None) == {}


def test_an_evaluation_without_figures_says_why(runs):
    why = "Every one of 9 labelled answers is wrong, so there is nothing to detect."
    facts = facts_of(runs["small"]).model_copy(update={"figures": {}, "undefined": why})
    assert [line for line in notes([facts], {}) if line.startswith("small")] == [f"small: {why}"]


def test_the_batch_of_the_extraction_is_the_one_that_its_manifest_has():
    definition = SimpleNamespace(internal_parameters={"batchSize": 16})
    manifest = SimpleNamespace(predicate=SimpleNamespace(build_definition=definition))
    results = SimpleNamespace(entries={"extract/layers_0-5": SimpleNamespace(manifest=manifest)})
    assert _extract_batch(results) == 16
    assert _extract_batch(SimpleNamespace(entries={})) is None


def test_depth_is_of_the_model_where_only_some_layers_are_studied(tmp_path):
    make_run(tmp_path, "some", questions=5, layers=4, blocks=13)
    facts = facts_of(Results.open(str(tmp_path), "some"))
    assert [each["depth"] for each in facts.sae] == pytest.approx([0, 1 / 12, 2 / 12, 3 / 12])


def test_a_report_of_an_earlier_version_is_called_that(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "REPORT_VERSION", 1)
    make_run(tmp_path, "old", questions=5)
    facts = [facts_of(Results.open(str(tmp_path), "old"))]
    [note] = [line for line in notes(facts, {}) if "old" in line]
    assert note == (
        "old: final_report.json was made by an earlier version and is not read; `ghosttrack run old` makes it again."
    )


def test_runs_of_one_name_are_told_apart_by_their_place(tmp_path):
    for number, place in enumerate(("a", "b")):
        make_run(tmp_path / place, "demo", questions=40, seed=number)
    runs = [Results.at(str(tmp_path / place / "results/demo")) for place in ("a", "b")]
    names = [f"demo ({place})" for place in ("a", "b")]  # and not where on this machine
    assert names_of(runs) == names
    assert list(paired(runs)) == [(names[0], names[1])]
    text = markdown([facts_of(run, name) for run, name in zip(runs, names, strict=True)], paired(runs), [])
    assert all(name in text for name in names)
    with pytest.raises(ConfigError, match="is given twice"):
        names_of([runs[0], runs[0]])


def test_a_tampered_result_is_refused_by_name(tmp_path):
    make_run(tmp_path, "good", questions=5)
    make_run(tmp_path, "bad", questions=5, seed=3)
    report = (tmp_path / "results/bad/evaluate/final_report.json").resolve()
    report.chmod(0o644)
    report.write_text(report.read_text().replace("0.66", "0.99"))
    with pytest.raises(CorruptInputError, match=r"final_report\.json"):
        compare_results([Results.open(str(tmp_path), name) for name in ("good", "bad")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_paired_differences_agree_with_a_bootstrap_by_hand(runs):
    found = compare_pair(scores(runs["small"]), scores(runs["large"]))
    pairs = [
        (a, b)
        for a, b in zip(scores(runs["small"]), scores(runs["large"]), strict=True)
        if a["label"] is not None
    ]
    labels, values = (np.array([[r[key] for r in pair] for pair in pairs]).T for key in ("label", "score"))
    assert found.n == len(pairs)
    first, second = (roc_auc_score(labels[side], values[side]) for side in (0, 1))
    assert found.first["auroc"] == pytest.approx(first)
    assert found.auroc.value == pytest.approx(second - first)
    assert found.accuracy.value == pytest.approx(labels[0].mean() - labels[1].mean())
    rng, drawn = np.random.default_rng(5), []
    for _ in range(400):
        rows = rng.integers(0, len(pairs), len(pairs))
        drawn.append(
            roc_auc_score(labels[1][rows], values[1][rows]) - roc_auc_score(labels[0][rows], values[0][rows])
        )
    assert [found.auroc.low, found.auroc.high] == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.025
    )


def test_a_model_does_not_differ_from_itself(runs):
    found = compare_pair(scores(runs["small"]), scores(runs["small"]))
    assert found.auroc._asdict() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_models_without_shared_questions_are_shown_without_differences(runs, capsys):
    assert paired([runs["small"], runs["elsewhere"]]) == {("small", "elsewhere"): None}
    compare_results([runs["small"], runs["elsewhere"]], None)
    shown = " ".join(capsys.readouterr().out.split())
    assert "share too few questions" in shown
    assert "second − first" not in shown
    assert "AUROC" in shown


def test_questions_with_one_id_and_other_texts_are_not_shared(runs):
    other = [{**record, "question": "Something else"} for record in scores(runs["large"])]
    assert compare_pair(scores(runs["small"]), other) is None


def test_what_an_unfinished_run_lacks_is_said(runs):
    facts = [facts_of(runs["small"]), facts_of(runs["unfinished"])]
    text = markdown(facts, paired([runs["small"], runs["unfinished"]]), [])
    assert "unfinished has no evaluation yet; `ghosttrack run unfinished` makes it." in text
    assert "| layers studied | 6 | 6 | 1.00× |" in text


def markdown_tables(text):
    """Title to rows of cells."""
    found = {}
    for part in text.split("\n## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|") and not line.startswith("|---")]
        found[part.splitlines()[0]] = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines
        ]
    return found


def html_tables(text):
    cells = re.findall(r"<h2>(.*?)</h2><div><table>(.*?)</table>", text, re.DOTALL)
    return {
        html.unescape(title): [
            [html.unescape(cell).strip() for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table)
        ]
        for title, table in cells
    }


def test_every_cell_in_markdown_and_html_is_that_of_the_files(runs):
    both = [runs["small"], runs["large"]]
    facts, pairs = [facts_of(each) for each in both], paired(both)
    found = markdown_tables(markdown(facts, pairs, []))
    assert html_tables(page(facts, pairs, {})) == found
    reports = [each.json(REPORT) for each in both]

    rows = {row[0]: row[1:] for row in found["Models"]}
    assert rows["model"][:2] == [report["model"] for report in reports]
    assert rows["layers studied"] == ["6", "10", "1.67×"]
    assert rows["width"] == ["32", "32", "1.00×"]
    assert rows["latents of a SAE"] == ["64", "64", "1.00×"]
    assert rows["tokens a training step of a SAE"] == ["128", "128", "1.00×"]

    def cells(title, amounts, show):
        assert rows[title] == [*map(show, amounts), f"{amounts[1] / amounts[0]:.2f}×"], title

    manifests = [{label: entry.manifest for label, entry in each.entries.items()} for each in both]
    sizes = [{label: sum(s.size for s in m.subject) for label, m in own.items()} for own in manifests]
    times = [
        {label: m.predicate.resource_usage["elapsedSec"] for label, m in own.items()} for own in manifests
    ]
    cells("model on disk", [own["prepare/model"] for own in sizes], format_bytes)
    cells("most memory of a unit", [1.5e9, 1.5e9], format_bytes)
    cells("time in all", [sum(own.values()) for own in times], format_seconds)
    cells("storage in all", [sum(own.values()) for own in sizes], format_bytes)
    for row, amounts, show in ((0, times, format_seconds), (1, sizes, format_bytes)):
        titles = [
            [line[0] for line in found["Models"]].index(total) for total in ("time in all", "storage in all")
        ]
        for line in found["Models"][titles[row] + 1 :]:
            if line[0] in ("storage in all", "most memory of a unit"):
                break
            of_stage = [
                sum(v for label, v in own.items() if label.startswith(f"{line[0]}/")) for own in amounts
            ]
            assert line[1:] == [*map(show, of_stage), f"{of_stage[1] / of_stage[0]:.2f}×"], line

    for report, row in zip(reports, found["Detection, each model on its own questions"][1:], strict=True):
        methods = {m["name"]: m["figures"] for m in report["splits"][0]["methods"]}
        base = report["splits"][0]["best_baseline"]["auroc"]
        shown = [methods[report["detector"]][key] for key in ("auroc", "auroc_within_relation", "f1")]
        assert row == [
            report["name"], str(report["data"]["n_labelled"]), f"{report['data']['n_wrong'] / report['data']['n_labelled']:.1%}", report["detector"],
            *("{value:.3f} [{low:.3f}, {high:.3f}]".format(**each) for each in (*shown, methods[base]["auroc"])), base,
        ]  # fmt: skip

    qualities = [each.json(QUALITY)["layers"] for each in both]
    for quarter, row in enumerate(found["SAEs by relative depth"][1:]):
        wanted = [f"{quarter / 4:.0%}–{(quarter + 1) / 4:.0%}"]
        for layers in qualities:
            own = [each for i, each in enumerate(layers) if min(int(4 * i / (len(layers) - 1)), 3) == quarter]
            fvu, recovered, l0 = (
                np.mean(values) if values else None
                for values in (
                    [each["fvu"] for each in own],
                    [each["splice"]["ce_recovered"]["mean"] for each in own],
                    [each["l0"] for each in own],
                )
            )
            wanted += ["–"] * 3 if fvu is None else [f"{fvu:.3f}", f"{recovered:.1%}", f"{l0:.1f}"]
        assert row == wanted

    [row] = found["On the questions that both were asked, second − first"][1:]
    difference = compare_pair(scores(both[0]), scores(both[1]))
    wanted = ["small", "large", str(difference.n)]
    for key, entry in (
        ("auroc", difference.auroc),
        ("within_relation", difference.within_relation),
        ("accuracy", difference.accuracy),
    ):
        ends = f"{entry.value:+.3f} [{entry.low:+.3f}, {entry.high:+.3f}]".replace("-", "−")
        wanted.append(f"{difference.first[key]:.3f} → {difference.second[key]:.3f}: {ends}")
    assert row == wanted


def test_html_shows_texts_as_text(runs):
    facts = [
        facts_of(runs["small"]).model_copy(update={"model": "<script>alert(1)</script>"}),
        facts_of(runs["large"]),
    ]
    text = page(facts, {}, {})
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_the_command_of_the_reference_page(root, tmp_path):
    runs = ("--small", f"{root}/results/small", "--medium", f"{root}/results/large")
    done = python("-m", "ghosttrack.stages.report", "compare", *runs, "--output", tmp_path / "out")
    assert "layers studied" in done.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "comparison.md",
        "comparison.html",
        "sae_by_depth.svg",
        "auroc.svg",
        "time_and_storage.svg",
    } == names
    report = json.loads((root / "results/large/evaluate/final_report.json").read_text())
    auroc = next(m for m in report["splits"][0]["methods"] if m["name"] == report["detector"])["figures"][
        "auroc"
    ]
    assert (
        f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]"
        in (tmp_path / "out/comparison.md").read_text()
    )


def test_three_models_through_the_command_line(root, runs):
    names = ("small", "large", "unfinished")
    done = ghosttrack("compare", *(f"{root}/results/{name}" for name in names))
    lines = done.stdout.splitlines()
    for name in ("small", "large"):
        report = json.loads((root / f"results/{name}/evaluate/final_report.json").read_text())
        figures = {m["name"]: m["figures"]["auroc"] for m in report["splits"][0]["methods"]}
        for method, title in (
            (report["detector"], "detector"),
            (report["splits"][0]["best_baseline"]["auroc"], "best baseline"),
        ):
            [line] = [line for line in lines if line.startswith(f"{name}: {title}")]
            assert line.rstrip().endswith("{value:.3f} [{low:.3f}, {high:.3f}]".format(**figures[method]))
            assert set(line) & set("▏▎▍▌▋▊▉█▐▕")
    assert "unfinished  not measured" in done.stdout
    assert sum("█" in line and " GB" not in line for line in lines) >= 3
    assert "unfinished has no evaluation yet" in done.stdout


def test_lines_of_characters_have_the_heights_of_their_numbers():
    assert sparkline([0.0, 1.0, 0.5], 0.0, 1.0) == "▁█▅"
    assert sparkline([], 0.0, 1.0) == ""
    assert sparkline([2.0], 2.0, 2.0) == "▁"


def test_one_model_is_no_comparison(root):
    assert "two models or more" in ghosttrack("compare", f"{root}/results/small", code=10).stderr


def test_a_folder_without_results_is_named(root):
    done = ghosttrack("compare", f"{root}/results/small", f"{root}/results/nothing", code=13)
    assert "nothing has no results" in done.stderr
