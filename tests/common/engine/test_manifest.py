"""The manifest file is what its published schema says, and nothing else passes for one."""

import json
import socket
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from ghosttrack.common.engine import provenance
from ghosttrack.common.engine.manifest import Manifest
from tests.common.results import manifest_of, unit_of


@pytest.fixture
def data() -> dict[str, Any]:
    _, statement = manifest_of(unit_of(seed=0), {"a.txt": b"one"}, {"prepare/all/x": "ab" * 32})
    return json.loads(statement.to_bytes())


def test_a_manifest_is_an_in_toto_statement_that_the_schema_accepts(data: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(Manifest.model_json_schema(by_alias=True))
    jsonschema.validate(data, Manifest.model_json_schema(by_alias=True))
    assert data["_type"] == "https://in-toto.io/Statement/v1"
    assert data["subject"][0]["digest"].keys() == {"sha256"}
    predicate = data["predicate"]
    assert {
        "buildDefinition",
        "runDetails",
        "actionStatus",
        "environment",
        "resourceUsage",
    } <= predicate.keys()
    assert predicate["buildDefinition"]["externalParameters"] == {"seed": 0}


def test_a_manifest_survives_its_file(data: dict[str, Any]) -> None:
    manifest = Manifest.model_validate(data)
    assert Manifest.model_validate_json(manifest.to_bytes()) == manifest
    assert manifest.input_digests == {"prepare/all/x": "ab" * 32}
    assert manifest.files["a.txt"].size == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("subject"),
        lambda data: data.update(extra=1),
        lambda data: data.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda data: data["predicate"].update(actionStatus="FailedActionStatus"),
        lambda data: data["predicate"].pop("taskKey"),
        lambda data: data["predicate"].update(resourceUsage={"elapsedSec": 1.7e308}),
    ],
)
def test_what_is_not_a_manifest_is_refused_by_schema_and_code(data: dict[str, Any], damage: Any) -> None:
    damage(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, Manifest.model_json_schema(by_alias=True))
    with pytest.raises(ValidationError):
        Manifest.model_validate(data)


def test_a_manifest_does_not_tell_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert socket.gethostname() not in f"{provenance.invocation_id()} {provenance._environment()['host']}"
