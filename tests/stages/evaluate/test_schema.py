"""The report file is what its published schema says."""

import json
from pathlib import Path

import jsonschema

from ghosttrack.stages.evaluate.schema import json_schema

SCHEMA_FILE = Path(__file__).parents[3] / "docs" / "final_report.schema.json"


def test_the_published_schema_is_the_code_s() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), (
        "write it anew: python -m ghosttrack.stages.evaluate.schema > docs/final_report.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json_schema())
