"""The one way to read and to write each kind of file."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, ConfigDict

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.formats.cells import cell_of, cells_of, position_of
from ghosttrack.common.formats.file import QUESTION, Column, Json, Lines, Table
from ghosttrack.common.formats.final_report import REPORT as FINAL_REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES

REPORT = Json("report.json", "weigh", "weights", version=2)
NOTES = Lines("notes.jsonl", "weigh", "notes")
WEIGHTS = Table("weights.parquet", "weigh", "a row a question", (QUESTION, Column("weight", "float32", "kg")))


def test_a_json_file_carries_its_version_and_is_read_back(tmp_path):
    path = tmp_path / REPORT.name
    REPORT.write(path, {"weights": np.array([1, 2])})
    assert json.loads(path.read_text()) == {"schema_version": 2, "weights": [1, 2]}
    assert REPORT.read(path)["weights"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"schema_version": 1}', "schema version 1, not 2"), ("{", "not JSON"), ("[1]", "not a JSON object")],
)
def test_what_is_no_such_json_file_is_refused_with_the_stage_to_run(tmp_path, text, words):
    path = tmp_path / REPORT.name
    path.write_text(text)
    with pytest.raises(CorruptInputError, match=words) as error:
        REPORT.read(path)
    assert str(path) in str(error.value)
    assert "run weigh again" in str(error.value)


def test_of_an_earlier_version_nothing_is_asked_and_of_todays_all_that_is_declared(tmp_path):
    path = tmp_path / SCORES.name
    path.write_text('{"schema_version": 1}')
    assert SCORES.read_any(path) == {"schema_version": 1}
    path.write_text('{"schema_version": 3, "detector": "x", "questions": [{"id": "a"}]}')
    with pytest.raises(CorruptInputError, match=r"questions\.0\.relation: Field required.*run detect again"):
        SCORES.read_any(path)
    path.write_text('{"schema_version": 2, "detector": []}')
    with pytest.raises(CorruptInputError, match=r"final_report\.json .*run evaluate again"):
        FINAL_REPORT.read(path)


class Weighed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: int
    weights: list[int]
    unit: str = "kg"


def test_a_file_of_before_a_field_was_there_has_its_default(tmp_path):
    path = tmp_path / REPORT.name
    path.write_text('{"schema_version": 2, "weights": [1]}')
    found = replace(REPORT, record=Weighed).read(path)
    assert found == {"schema_version": 2, "weights": [1], "unit": "kg"}


def test_a_figure_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(NumericError, match=r"report\.json"):
        REPORT.write(tmp_path / REPORT.name, {"weight": float("nan")})


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / NOTES.name
    NOTES.write(path, [{"a": "ü"}, {"b": 1}])
    assert NOTES.read(path) == [{"a": "ü"}, {"b": 1}]
    path.write_text('{"a": 1}\n{"a"\n')
    with pytest.raises(CorruptInputError, match="line 2"):
        NOTES.read(path)
    path.write_text("[1]\n")
    with pytest.raises(CorruptInputError, match="line 1 is no JSON object"):
        NOTES.read(path)


def test_a_table_is_written_as_declared_and_read_back(tmp_path):
    path = tmp_path / WEIGHTS.name
    columns = {"question": np.array([0, 1], np.int32), "weight": np.array([0.5, 2], np.float32)}
    WEIGHTS.write(path, columns)
    for name, values in WEIGHTS.read(path).items():
        assert values.dtype == columns[name].dtype
        np.testing.assert_array_equal(values, columns[name])
    with pytest.raises(AssertionError, match="not as declared"):
        WEIGHTS.write(path, {**columns, "weight": np.array([0.5, 2])})


def test_a_table_in_pieces_is_the_whole_with_a_row_group_a_piece(tmp_path):
    table = Table("t.parquet", "s", "", (Column("a", "int32"), Column("text", "string")))
    whole = pa.table({"a": pa.array([1, 2, 3], pa.int32()), "text": ["x", "y", None]})
    with table.in_pieces(tmp_path / "t.parquet") as write:
        write(whole[:2])
        write({"a": np.array([3], dtype=np.int32), "text": pa.nulls(1)})
    assert table.table(tmp_path / "t.parquet").equals(whole)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2
    for wanted in (range(1), range(1, 3), range(2, 3), range(3)):
        assert table.rows(tmp_path / "t.parquet", wanted).equals(whole[wanted.start : wanted.stop])
    with pytest.raises(CorruptInputError, match=r"it has 3 rows and should have 4 or more"):
        table.rows(tmp_path / "t.parquet", range(2, 4))
    with pytest.raises(CorruptInputError, match="it has no column 'b'"):
        table.rows(tmp_path / "t.parquet", range(1), ["b"])


def test_a_table_without_rows_has_the_types_of_its_columns(tmp_path):
    arrays = {
        column.name: np.array([], dtype=object if column.type == "string" else column.type)
        for column in CAUSES.columns
    }
    CAUSES.write(tmp_path / "causes.parquet", arrays)
    found = CAUSES.table(tmp_path / "causes.parquet")
    assert len(found) == 0
    assert str(found.schema.field("kind").type) == "string"


def test_a_table_that_lacks_a_column_or_is_none_is_refused(tmp_path):
    path = tmp_path / WEIGHTS.name
    WEIGHTS.write(path, {"question": np.zeros(1, np.int32), "weight": np.zeros(1, np.float32)})
    with pytest.raises(CorruptInputError, match="height"):
        WEIGHTS.read(path, ["question", "height"])
    path.write_bytes(b"no table")
    with pytest.raises(CorruptInputError, match="run weigh again"):
        WEIGHTS.read(path)


def test_cells_number_positions_in_their_order():
    question, position = np.array([0, 0, 0, 3], np.int32), np.array([-1, 0, 32_000, -1], np.int16)
    cells = cell_of(question, position)
    assert (np.diff(cells) > 0).all()
    np.testing.assert_array_equal(position_of(cells), position)
    for number, cell in zip(question.tolist(), cells.tolist(), strict=True):
        start, stop = cells_of(number)
        assert start <= cell < stop


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"question": pa.array(["0", "1"]), "weight": pa.array([0.5, 2.0])},
            "'question' is string, not int32",
        ),
        ({"question": pa.array([0, None]), "weight": pa.array([0.5, 2.0])}, "'question' has gaps"),
        (
            {"question": pa.array([0, 1]), "weight": pa.array([[0.5], [2.0]])},
            "'weight' is list<.*>, not float32",
        ),
    ],
)
def test_a_table_of_other_types_is_refused_and_of_another_width_taken(tmp_path, columns, words):
    path = tmp_path / WEIGHTS.name
    pq.write_table(pa.table(columns), path)
    with pytest.raises(CorruptInputError, match=words):
        WEIGHTS.read(path)
    pq.write_table(pa.table({"question": pa.array([0]), "weight": pa.array([0.5])}), path)  # int64, double
    assert WEIGHTS.read(path)["question"].tolist() == [0]
