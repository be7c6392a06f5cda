import io
import json
import re

import pytest
from rich.console import Console

from common.contract import load_contract
from common.errors import CorruptInputError
from stages.report import tables
from stages.report.page import surest
from stages.report.run import read, summarise
from tests.stages.detect import synthetic


@pytest.fixture
def folder(finished_run):
    return synthetic.published(finished_run / "report")


@pytest.fixture
def final(finished_run):
    return json.loads((synthetic.published(finished_run / "evaluate") / "final_report.json").read_text())


def test_the_finding_comes_first(folder, final):
    paragraphs = (folder / "report.md").read_text().split("\n\n")
    assert paragraphs[1] == final["headline"]
    assert re.search(
        r"(beats|does worse than|cannot be told apart from) .*paired difference .*\[.*\]", paragraphs[1]
    )


def test_every_method_and_expectation_is_listed(folder, final):
    text = (folder / "report.md").read_text()
    for method in final["methods"]:
        assert f"| {method['name']} |" in text
        assert tables.figure(method["figures"]["auroc"]) in text
    for row in final["expectations"]:
        assert f"| {row['metric']} | {row['wanted']} |" in text
    assert "| 0 | 64.0 | 0.200 | 0.005 | 1.0% | 90.0% | – | 99.5% |" in text
    assert f"| {len(final['layers']) - 1} | 64.0 |" in text
    assert "with all layers' SAEs in place at once it is 90.0% of the cross-entropy" in text


def test_pictures_lie_beside_the_page(folder):
    [unit] = load_contract(synthetic.ROOT / "stages" / "report").units
    assert sorted(path.name for path in folder.iterdir()) == sorted(unit.writes)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", (folder / "report.md").read_text())
    assert len(pictures) == 3
    assert all((folder / picture).read_bytes()[:4] == b"\x89PNG" for picture in pictures)


def test_the_summary_fits_a_terminal_of_eighty_columns(final):
    screen = io.StringIO()
    summarise(Console(file=screen, width=80), final)
    lines = screen.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert any(
        line.startswith("tracks ") and re.search(r"0\.\d\d \[0\.\d\d, [01]\.\d\d\]", line) for line in lines
    )
    assert len(lines) < 30


def test_markdown_cells_keep_their_bars():
    assert tables.markdown([["a", "b"], ["x|y", "z"]]).splitlines()[2] == "| x\\|y | z |"


def test_examples_are_the_surest_at_both_ends():
    records = [{"id": str(i), "label": i % 2, "score": i / 10} for i in range(10)]
    records.append({"id": "x", "label": None, "score": 0.99})
    assert [r["score"] for r in surest(records, each=2)] == [0.9, 0.8, 0.1, 0.0]


def test_an_unreadable_input_is_named(tmp_path):
    path = tmp_path / "final_report.json"
    path.write_text("{")
    with pytest.raises(CorruptInputError, match=r"final_report\.json cannot be read .*run evaluate again"):
        read(path, "evaluate")
    path.write_text('{"schema_version": 7}')
    with pytest.raises(CorruptInputError, match="schema version 7"):
        read(path, "evaluate")
