"""What the served dashboard sends: the single file's blocks, with all that a file has no room for."""

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.detector import ASKED_SCORES
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.stages.report.dashboard.build import build
from ghosttrack.stages.report.dashboard.questions import QUESTIONS_A_BLOCK
from ghosttrack.stages.report.dashboard.slices import Slices
from ghosttrack.stages.report.results import Results
from tests.stages.report import synthetic
from tests.stages.report.test_dashboard import blocks
from tests.stages.report.unpacking import unpack

QUESTIONS, NEW = 24, 3


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("asked")
    synthetic.ask(synthetic.make_run(root), questions=NEW)
    return Results.open(str(root), "made-up", deep=False)


@pytest.fixture(scope="module")
def slices(results: Results) -> Slices:
    return Slices(results)


@pytest.fixture(scope="module")
def file(results: Results) -> dict[str, str]:
    return blocks(build(results))


def sent(slices: Slices, name: str) -> tuple[Any, dict[str, np.ndarray]]:
    return unpack(base64.b64encode(slices.block(name)).decode())


def test_the_list_is_that_of_the_file_with_the_new_questions_at_its_end(
    slices: Slices, file: dict[str, str]
) -> None:
    listed, _ = sent(slices, "questions")
    assert listed == unpack(file["questions"])[0]
    assert len(listed) == QUESTIONS + NEW
    assert [entry.get("new", False) for entry in listed] == [False] * QUESTIONS + [True] * NEW
    new = listed[QUESTIONS:]
    assert all(entry["id"].startswith("new:") and entry["scored"]["baseline"] == 0.25 for entry in new)
    assert [entry["scored"]["unfamiliar"] for entry in new] == [False, True, False]
    assert all(entry["beside"] < QUESTIONS for entry in listed)  # never one whose answer nobody judged


def test_what_rots_under_a_server_is_not_shown(tmp_path: Path) -> None:
    """Also where it was whole when it was first read."""
    synthetic.make_run(tmp_path)
    results = Results.open(str(tmp_path), "made-up", deep=False)
    slices = Slices(results)
    sent(slices, "q1")
    file = results.path(TRACKS)
    times, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CorruptInputError, match=TRACKS.name):
        slices.block("q2")


@pytest.mark.parametrize("number", [0, 7, 23, 24, 26])
def test_a_question_alone_is_the_one_in_the_file(slices: Slices, file: dict[str, str], number: int) -> None:
    """Cells, and every row of every table (the made-up run fits into a file whole)."""
    [record], columns = sent(slices, f"q{number}")
    records, theirs = unpack(file[f"q{number // QUESTIONS_A_BLOCK}"])
    in_file = records[number % QUESTIONS_A_BLOCK]
    for key in in_file.keys() - {"cells"}:
        assert record[key] == in_file[key], key
    assert [cell["position"] for cell in record["cells"]] == [cell["position"] for cell in in_file["cells"]]
    for cell, other in zip(record["cells"], in_file["cells"], strict=True):
        for table in cell.keys() - {"position"}:
            own, its = slice(*cell[table]), slice(*other[table])
            for name in (name for name in columns if name.startswith(f"{table}.")):
                np.testing.assert_array_equal(columns[name][own], theirs[name][its], err_msg=name)
    # of new ones too
    assert all(start < stop for start, stop in (cell["account"] for cell in record["cells"]))
    assert all(record["texts"][str(token)] for token in columns["candidates.token"])


def test_every_track_is_there_where_a_file_leaves_some_out(results: Results, slices: Slices) -> None:
    whole = pq.read_table(results.path(TRACKS), filters=[("question", "=", 5)])
    _, columns = sent(slices, "q5")
    assert len(columns["nodes.latent"]) == len(whole)
    small = blocks(build(results, limit=720e3))
    assert len(unpack(small["q0"])[1]["nodes.latent"]) < len(whole) * QUESTIONS_A_BLOCK


def test_every_latent_has_a_page_which_is_the_file_s_once_all_tracks_are_counted(
    results: Results, file: dict[str, str]
) -> None:
    slices = Slices(results)
    listed, columns = sent(slices, "latents")
    assert len(listed["promoted"]) == pq.read_metadata(results.path(LATENTS)).num_rows
    theirs, their_columns = unpack(file["latents"])
    places = {
        pair: k
        for k, pair in enumerate(zip(columns["layer"].tolist(), columns["latent"].tolist(), strict=True))
    }
    sent(slices, "f0")
    assert slices._counting is not None
    slices._counting.join()
    for k in (0, 40, 200):
        place = places[int(their_columns["layer"][k]), int(their_columns["latent"][k])]
        assert listed["promoted"][place] == theirs["promoted"][k]
        [page], _ = sent(slices, f"f{place}")
        assert page.pop("counting") is False
        assert page == unpack(file[f"f{k // theirs['a_block']}"])[0][k % theirs["a_block"]]


@pytest.mark.parametrize("name", ["q27", "f99999", "q-1", "../run", "q1x", ""])
def test_there_is_no_other_block(slices: Slices, name: str) -> None:
    with pytest.raises(KeyError):
        slices.block(name)


def test_scores_of_other_questions_than_were_last_asked_are_not_shown(tmp_path: Path) -> None:
    """`ghosttrack score` that was stopped after it had answered."""
    store = synthetic.make_run(tmp_path)
    synthetic.ask(store)
    records = synthetic.generations(np.random.default_rng(5), 2, 4)
    synthetic.publish(
        store, "made-up", "track", "asked_answers", {"generations.jsonl": synthetic._lines(records)}, {"x": 1}
    )
    assert Results.open(str(tmp_path), "made-up").of_new_questions() is None
    scores = synthetic._lines(synthetic.scores(np.random.default_rng(5), records))
    synthetic.publish(
        store, "made-up", "detect", "asked", {"scores.jsonl": scores}, {}, ("track/asked_answers",)
    )
    now = Results.open(str(tmp_path), "made-up").of_new_questions()
    assert now is not None
    assert now.has(ASKED_SCORES)
    assert not now.has(ACCOUNT)  # that of those before
