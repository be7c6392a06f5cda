"""The export for a paper: every number is the one in its file, and the LaTeX compiles."""

import csv
import importlib.util
import json
import re
import shutil
import subprocess
import unicodedata

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.stages.report.paper.export import export
from ghosttrack.stages.report.paper.figures import SETTINGS, drawn
from ghosttrack.stages.report.paper.numbers import at, camel, latex, numbers_of
from ghosttrack.stages.report.results import Results
from ghosttrack.stages.report.tables import share
from tests.components import missing
from tests.stages.report import synthetic
from tests.stages.report.synthetic import make_run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    make_run(root, "made_up-1")
    return Results.open(str(root), "made_up-1")


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper") / "results"
    files, _ = export(results, folder)
    assert sorted(files) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )
    return folder


@pytest.fixture(scope="module")
def report(results):
    return results.json(REPORT)


def test_the_answers_are_a_log_of_inspect(results, folder):
    (path,) = (folder / "inspect").iterdir()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", path.name)  # without it Inspect does not list the file
    log = json.loads(path.read_text(encoding="utf-8"))
    needed = [
        "version",
        "status",
        "eval",
        "plan",
        "results",
        "stats",
    ]  # by its lists of logs, before the samples
    assert list(log) == [*needed, "samples"]
    answers = results.lines(GENERATIONS)
    scores = {each["id"]: each["score"] for each in results.json(SCORES)["questions"]}
    assert [(each["id"], each["output"]["choices"][0]["message"]["content"]) for each in log["samples"]] == [
        (each["id"], each["answer"]) for each in answers
    ]
    for sample, answer in zip(log["samples"], answers, strict=True):
        verdict = {"C": 0, "I": 1, None: None}[sample["scores"].get("right", {}).get("value")]
        assert verdict == answer["label"]
        assert sample["scores"].get("probability_wrong", {}).get("value") == scores.get(answer["id"])
    labels = [each["label"] for each in answers if each["label"] is not None]
    (score,) = log["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == labels.count(0) / len(labels)
    if importlib.util.find_spec("inspect_ai"):
        from inspect_ai.log import read_eval_log

        assert len(read_eval_log(str(path)).samples) == len(answers)
        assert read_eval_log(str(path), header_only=True).results == read_eval_log(str(path)).results


def test_every_macro_is_the_number_in_its_file(results, folder):
    macros = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", (folder / "macros.tex").read_text()))
    lines = [
        line.split("\t")
        for line in (folder / "PROVENANCE.txt").read_text().splitlines()
        if line.startswith("\\GT")
    ]
    assert {line[0][1:] for line in lines} == set(macros)
    assert len(lines) > 300
    files = {file.name: file for file in (REPORT, QUALITY)}
    integers = 0
    for macro, value, place in lines:
        file, pointer = place.split("#")
        exact = at(results.json(files[file]), pointer)
        shown = macros[macro[1:]].replace(r"\ensuremath{-}", "-")
        if macro.endswith("CI"):
            numbers = [float(text.replace(",", "")) for text in re.findall(r"[-+]?\d+\.\d+", shown)]
            assert numbers == [round(exact[key], 3) for key in ("value", "low", "high")], macro
        elif isinstance(exact, float):
            assert float(value) == exact
            scale = 100 if r"\%" in shown else 1
            digits = len(re.sub(r"\\.*", "", shown).partition(".")[2])
            assert float(re.sub(r"\\.*", "", shown)) == pytest.approx(
                exact * scale, abs=0.5000001 * 10**-digits
            ), macro
        elif isinstance(exact, int):
            assert value == str(exact), macro
            assert shown.replace(",", "") == value, macro
            integers += 1
        elif isinstance(exact, list):  # how many there are
            assert shown == value == str(len(exact)), macro
        elif exact is None:
            assert shown == "--", macro
        else:
            assert shown == latex(exact), macro
    assert integers >= 8


def test_the_main_numbers_have_short_names(folder, report):
    macros = (folder / "macros.tex").read_text()
    main = next(m for m in report["splits"][0]["methods"] if m["name"] == report["detector"])["figures"]
    assert rf"\newcommand{{\GTauroc}}{{{main['auroc']['value']:.3f}}}" in macros
    assert rf"\newcommand{{\GTaurocLow}}{{{main['auroc']['low']:.3f}}}" in macros
    assert rf"\newcommand{{\GTfOne}}{{{main['f1']['value']:.3f}}}" in macros
    assert r"\GTbaselineAuroc}" in macros


def test_macro_names_are_letters_and_never_clash(report):
    assert camel("tracks+logits_2") == "TracksPlusLogitsTwo"
    names = [number.macro for number in numbers_of(report, None)]
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in names)
    assert len(set(names)) == len(names)


def test_each_file_is_tied_to_its_manifest(results, folder):
    text = (folder / "PROVENANCE.txt").read_text()
    for unit, file in (("evaluate/all", "final_report.json"), ("sae_train/quality", "sae_quality.json")):
        assert results.entries[unit].manifest_sha256 in text
        assert results.digest(unit, file) in text
        assert results.entries[unit].key in text


def test_tables_have_all_digits_in_csv_and_rounded_ones_in_latex(folder, report):
    rows = list(csv.DictReader((folder / "tables/methods.csv").open()))
    methods = [m for m in report["splits"][0]["methods"] if m["kind"] in ("detector", "baseline")]
    latex_table = (folder / "tables/methods.tex").read_text()
    for row, method in zip(rows, methods, strict=True):
        figure = method["figures"]["auroc"]
        assert [float(row[f"AUROC{suffix}"]) for suffix in ("", " low", " high")] == [
            figure[key] for key in ("value", "low", "high")
        ]
        assert f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" in latex_table
    assert r"\toprule" in latex_table


def test_figures_embed_their_fonts_and_fit_a_column_or_the_page(folder):
    figures = sorted((folder / "figures").glob("*.pdf"))
    assert {"roc.pdf", "methods.pdf", "ladder.pdf", "early_warning.pdf"} <= {path.name for path in figures}
    for path in figures:
        content = path.read_bytes()
        assert b"/FontFile2" in content, path.name
        assert b"/Type3" not in content
        width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)[1])
        column = 6.75 if path.name in ("methods.pdf", "ladder.pdf") else 3.25  # names stand beside the axis
        assert width == pytest.approx(column * 72, abs=0.5)


def test_special_characters_are_escaped():
    assert (
        latex("50% of a_b & {c} \\ #1 −0.3")
        == r"50\% of a\_b \& \{c\} \textbackslash{} \#1 \ensuremath{-}0.3"
    )
    assert latex("Zürich, 東京") == "Zürich, ??"


def test_the_latex_compiles(folder, tmp_path):
    if shutil.which("pdflatex") is None:
        missing("latex", "there is no pdflatex (.ci/install-browser)")
    copy = shutil.copytree(folder, tmp_path / "paper")
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        done = subprocess.run(
            [command, *options, "results"],
            cwd=copy,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout
    assert "Overfull" not in done.stdout
    if shutil.which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", "-layout", "results.pdf", "-"], cwd=copy, capture_output=True, text=True, check=True
        ).stdout
        macro = re.search(r"\\GTaurocCI\}\{(.*)\}", (folder / "macros.tex").read_text())[1]
        assert macro in unicodedata.normalize("NFKC", " ".join(text.split()))


def test_what_a_run_lacks_is_said(tmp_path, monkeypatch):
    make_run(tmp_path, "bare", questions=5, without=["sae_train/quality"])
    found = export(Results.open(str(tmp_path), "bare"), tmp_path / "paper")
    [saes, *others] = found.missing
    assert saes.startswith("the macros of the SAEs")
    assert "sae_train/quality/sae_quality.json is not there; `ghosttrack run bare` makes it" in saes
    assert others == [
        "the table transfers: final_report.json has no rows for it",
        "not measured: transfer: no second data set",
    ]
    provenance = (tmp_path / "paper/PROVENANCE.txt").read_text()
    assert all(f"  {line}" in provenance for line in found.missing)
    assert "GTsaeLayer" not in (tmp_path / "paper/macros.tex").read_text()

    monkeypatch.setattr(synthetic, "QUALITY_VERSION", 0)
    make_run(tmp_path / "old", "old", questions=5)
    assert (
        "is of an earlier version"
        in export(Results.open(str(tmp_path / "old"), "old"), tmp_path / "again").missing[0]
    )


def test_tables_without_rows_are_named(tmp_path, monkeypatch):
    whole = synthetic.final_report
    monkeypatch.setattr(synthetic, "final_report", lambda *given: {**whole(*given), "early_warning": []})
    make_run(tmp_path, questions=5)
    found = export(Results.open(str(tmp_path), "made-up"), tmp_path / "paper")
    assert "the table early_warning: final_report.json has no rows for it" in found.missing
    assert "tables/early_warning.tex" not in found.files


def test_every_method_has_its_reference(folder):
    text = (folder / "methods.bib").read_text()
    keys = re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)
    assert len(set(keys)) == len(keys)
    for author, year in (
        ("Farquhar", 2024),
        ("Kuhn", 2023),
        ("Malinin", 2021),
        ("Rahmathullah", 2017),
        ("Wolpert", 1992),
        ("Azaria", 2023),
    ):
        assert re.search(rf"author = \{{[^\n]*{author}[^@]*year = \{{{year}\}}", text), author
    assert text.count("{") == text.count("}")


def test_without_an_evaluation_nothing_is_written(tmp_path):
    make_run(tmp_path, without=["evaluate/all"], questions=5)
    with pytest.raises(MissingInputError, match="no evaluation"):
        export(Results.open(str(tmp_path), "made-up"), tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_a_tampered_report_is_refused_by_name(tmp_path):
    make_run(tmp_path, questions=5)
    [file] = (tmp_path / ".store/evaluate").glob("*/final_report.json")
    file.chmod(0o644)
    file.write_text(file.read_text().replace("0.66", "0.99"))
    with pytest.raises(CorruptInputError, match=r"final_report\.json"):
        export(Results.open(str(tmp_path), "made-up"), tmp_path / "paper")


def test_every_figure_has_an_axis_with_ink_whole_text_and_a_legend_beside_the_data(report):
    with mpl.rc_context(SETTINGS):
        found = drawn(report)
    assert {"methods", "roc", "reliability", "risk_coverage"} <= set(found)
    for name, canvas in found.items():
        FigureCanvasAgg(canvas).draw()
        renderer = canvas.canvas.get_renderer()
        [axes] = canvas.axes
        inches = axes.get_window_extent(renderer).width / canvas.dpi
        assert inches > 1.5, f"{name}: its axis is {inches:.2f} inches wide"
        assert axes.lines, name
        drawn_in = canvas.get_tightbbox(renderer)  # inches; of all that is seen, text too
        width, height = canvas.get_size_inches()
        assert min(drawn_in.x0, drawn_in.y0) > -0.02, f"{name} is cut"
        assert drawn_in.x1 < width + 0.02, f"{name} is cut"
        assert drawn_in.y1 < height + 0.02, f"{name} is cut"
        assert axes.get_legend() is None
        for legend in canvas.legends:
            assert not legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer)), name


def test_a_share_beyond_all_bounds_is_not_told_to_the_digit():
    assert share(311559077.849) == "over 1,000%"
    assert share(-0.031) == "−3.1%"
