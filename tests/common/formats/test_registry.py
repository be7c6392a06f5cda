"""What is published about files is what the code says of them, and a run's files are what is published."""

import json

import jsonschema
import pytest

from ghosttrack.common.engine.contract import load_contracts
from ghosttrack.common.formats import registry
from ghosttrack.common.formats.file import Table
from tests.test_architecture import ROOT


@pytest.mark.parametrize("path", registry.documents())
def test_documents_are_current(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    part = registry.documents()[path]
    wanted = registry.filled(text, {"files": part}) if path == registry.STRUCTURE else part
    assert text == wanted, "write it anew: python -m ghosttrack.common.formats.registry"


@pytest.mark.parametrize("name", registry.SCHEMAS)
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(json.loads((ROOT / f"docs/{name}.schema.json").read_text()))


def test_every_file_of_every_contract_is_described_once():
    written = {registry.generic(n) for c in load_contracts() for unit in c.units for n in unit.writes}
    assert {file.name for file in registry.rows()} == written


def test_every_column_of_a_table_has_a_type():
    tables = [file for file in registry.files().values() if isinstance(file, Table)]
    assert len(tables) > 8
    assert all(table.columns and all(column.type for column in table.columns) for table in tables)
