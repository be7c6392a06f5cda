"""What is published about files is what the code says of them, and a run's files are what is published."""

import json

import jsonschema
import pytest

from docs import made_files
from ghosttrack.common.engine.contract import load_contracts
from ghosttrack.common.formats.file import Table
from tests.test_architecture import ROOT


@pytest.mark.parametrize("path", made_files.documents())
def test_documents_are_current(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    part = made_files.documents()[path]
    wanted = made_files.filled(text, {"files": part}) if path == made_files.STRUCTURE else part
    assert text == wanted, "write it anew: python -m docs.made_files"


@pytest.mark.parametrize("name", made_files.SCHEMAS)
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(json.loads((ROOT / f"docs/{name}.schema.json").read_text()))


def test_every_file_of_every_contract_is_described_once():
    written = {made_files.generic(n) for c in load_contracts() for unit in c.units for n in unit.writes}
    assert {file.name for file in made_files.rows()} == written


def test_every_column_of_a_table_has_a_type():
    tables = [file for file in made_files.files().values() if isinstance(file, Table)]
    assert len(tables) > 8
    assert all(table.columns and all(column.type for column in table.columns) for table in tables)
