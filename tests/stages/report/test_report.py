import io
import json
import re

import pytest
from rich.console import Console

from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.neutral import markdown_table
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.page import apart_sentence, page, surest
from ghosttrack.stages.report.run import summarise
from tests.stages.evaluate import scored


@pytest.fixture
def folder(evaluated):
    return evaluated / "report" / "out"


@pytest.fixture
def text(folder):
    return (folder / "report.md").read_text()


@pytest.fixture
def final(evaluated):
    return json.loads((evaluated / "evaluate" / "out" / "final_report.json").read_text())


def test_the_finding_comes_first(text, final):
    paragraphs = text.split("\n\n")
    grouped = final["splits"][0]
    auroc = {each["name"]: each["figures"]["auroc"] for each in grouped["methods"]}
    assert re.match(r"\*\*\d+% of the questions are answered wrongly\. ", paragraphs[1])
    for name in (final["detector"], grouped["best_baseline"]["auroc"]):
        assert f" in {auroc[name]['value']:.1%}" in paragraphs[1]
    first = paragraphs[2].splitlines()[2]
    assert first.startswith(f"| all questions | {tables.figure(auroc[final['detector']])} |")
    [compared] = [
        each for each in grouped["comparisons"]
        if (each["about"], each["method"], each["metric"]) == ("detector", final["detector"], "auroc")
    ]  # fmt: skip
    assert first.endswith(f"| {tables.figure(compared['difference'], signed=True)}, {compared['verdict']} |")
    assert all(final["headline"][part] in paragraphs[3:] for part in ("detector", "tracking"))


def test_what_hypotheses_add_is_the_first_sentence(final):
    final["headline"]["contexts"] = (
        "Hypotheses change it by +0.018 [+0.005, +0.031] on all questions (better)."
    )
    assert page(final, [], [["file", "unit"]]).split("\n\n")[1] == final["headline"]["contexts"]


def test_every_figure_of_every_split_is_listed(text, final):
    titles = {card["name"]: card["title"] for card in final["methods"]}
    for split in final["splits"]:
        for method in split["methods"]:
            if method["kind"] != "rung":
                assert f"| {titles[method['name']]} |" in text
            assert tables.figure(method["figures"]["auroc"]) in text
        for each in split["comparisons"]:
            assert tables.figure(each["difference"], signed=True) in text
    for method in final["splits"][0]["methods"]:
        if method["kind"] != "rung":
            for name in tables.FIGURES:
                assert tables.figure(method["figures"][name]) in text, name


def test_what_is_expected_counted_and_absent_is_told(text, final):
    for row in final["expectations"]:
        assert f"| {row['metric']} | {row['wanted']} |" in text
        assert {True: "| met |", False: "| not met |"}[row["met"]] in text
    assert "- Semantic entropy: detection.samples is 0." in text
    assert f"| left out: empty | {final['data']['excluded']['empty']} |" in text
    assert "; 3 more are worked examples, and not asked." in text
    assert "| worked examples, not asked | 3 |" in text
    assert "| unknown subject |" in text
    assert f"answers are judged otherwise (kappa {final['strict']['kappa']:.2f})" in text
    assert "beyond every one of them" in text
    exact = next(each for each in final["matchers"] if each["name"] == "exact")
    counts = ("n", "n_wrong", "wrong_where_label_is_right", "right_where_label_is_wrong")
    assert f"| `exact` | {' | '.join(str(exact[name]) for name in counts)} | " in text
    assert "| 0 | 64.0 | 0.200 | 0.005 | 1.0% | 90.0% | – | 99.5% |" in text
    assert "with all layers' SAEs in place at once it is 90.0% of the cross-entropy" in text
    assert f"| `evaluate/all` | `{'0' * 16}` |\n" in text
    assert "1" * 16 not in text  # a manifest has times in it, a report has none


def test_long_answers_are_shown_by_token_where_there_are_any(text, final):
    assert "1,200 labelled tokens of 60 answers, 400 of them in wrong spans; 60 answers are wrong." in text
    assert "| detector | 0.800 [0.700, 0.900] |" in text
    assert re.search(
        r"^\*\*Token by token, .* AUROC of 0\.800 \[.*paired difference \+0\.200 \[", text, re.MULTILINE
    )
    assert "| – | +0.200 [+0.100, +0.300] |\n" in text  # the log-probability's last two cells
    assert "Long answers" not in page(
        final, [], [["result", "task key"]], {"methods": {}, "tokens": 0, "why_not": "none"}
    )
    few = page(final, [], [["result", "task key"]], {"methods": {}, "tokens": 9, "why_not": "2 documents"})
    assert "## Long answers, token by token\n\nNo figures: 2 documents." in few
    assert "Token by token" not in few


def test_whether_tracks_can_be_believed_is_told_with_what_answers_do_without_them(text, final):
    assert "Of 3 checks whether they can be believed, 1 passed (appendix J)." in text
    for row in ("| Question True? | ✓ yes | In words True. |", "| Question False? | ✗ no | In words False. |",
                "| Question None? | could not be told | In words None. |",
                "| 1 | 24 | 75% [55%, 88%] | 8% [2%, 26%] | – | 0.80 [0.70, 0.90] |"):  # fmt: skip
        assert row in text.split("## J. Can tracks be believed?")[1]
    assert "believed" not in page(final, [], [["result", "task key"]])


def test_tables_have_as_many_cells_in_every_row(text):
    for table in re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE):
        assert len({row.count("|") for row in table.strip().splitlines()}) == 1, table


def test_what_was_not_measured_leaves_a_sentence(final):
    bare = {
        **final, "early_warning": [], "error_types": [], "strict": None, "permutation": None, "splits": final["splits"][:1],
    }  # fmt: skip
    bare["splits"] = [{**bare["splits"][0], "comparisons": [], "best_baseline": {}}]
    bare["splits"][0]["methods"] = [m for m in bare["splits"][0]["methods"] if m["kind"] == "detector"]
    text = page(bare, [], [["result", "task key"]])
    for sentence in ("No other association was tried.", "Labels were not permuted.", "There are no strict labels.",
                     "not distinguished", "not measured how soon"):  # fmt: skip
        assert sentence in text


def test_pictures_lie_beside_the_page(folder, text):
    [unit] = load_contract(scored.ROOT / "stages" / "report").units
    assert sorted(path.name for path in folder.iterdir()) == sorted(unit.writes)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(pictures) == sorted(set(unit.writes) - {"report.md"})
    assert all((folder / picture).read_bytes()[:4] == b"\x89PNG" for picture in pictures)


def test_the_summary_fits_a_terminal_of_eighty_columns(final):
    screen = io.StringIO()
    summarise(Console(file=screen, width=80), final)
    lines = screen.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert any(
        line.startswith("tracks + white box ") and re.search(r"0\.\d\d \[0\.\d\d, [01]\.\d\d\]", line)
        for line in lines
    )
    assert len(lines) < 45


def test_markdown_cells_keep_their_bars():
    assert markdown_table([["a", "b"], ["x|y", "z"]]).splitlines()[2] == "| x\\|y | z |"


def test_examples_are_the_surest_at_both_ends():
    records = [{"id": str(i), "label": i % 2, "score": i / 10} for i in range(10)]
    records.append({"id": "x", "label": None, "score": 0.99})
    assert [r["score"] for r in surest(records, each=2)] == [0.9, 0.8, 0.1, 0.0]


def test_an_unreadable_input_is_named(tmp_path):
    path = tmp_path / "final_report.json"
    path.write_text("{")
    with pytest.raises(CorruptInputError, match=r"final_report\.json is not JSON .*run evaluate again"):
        REPORT.read(path)
    path.write_text('{"schema_version": 7}')
    with pytest.raises(CorruptInputError, match="schema version 7, not 2"):
        REPORT.read(path)


def test_saes_that_share_no_latents_are_told_and_what_it_means_for_tracks() -> None:
    def layers(match: float) -> list[dict[str, float | None]]:
        return [{"next_self_match": match}, {"next_self_match": match}, {"next_self_match": None}]

    assert apart_sentence(layers(0.9)) == []
    [said] = apart_sentence(layers(0.02))
    assert "do not share their latents" in said
    assert "2.0%" in said
