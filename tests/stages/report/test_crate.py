"""The RO-Crate, read back by the `rocrate` package."""

import hashlib
import json
from types import SimpleNamespace

import pytest
from rocrate.rocrate import ROCrate

from ghosttrack.common.errors import CorruptInputError, MissingInputError, StorageError
from ghosttrack.stages.report.crate import write_crate
from ghosttrack.stages.report.results import Results, _in_order, _unit_order
from tests.stages.report.synthetic import make_run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    make_run(root)
    return Results.open(str(root), "made-up")


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crate") / "made-up"
    assert write_crate(results, folder) == sum(
        len(entry.manifest.files) for entry in results.entries.values()
    )
    return folder


def test_rocrate_reads_every_file_and_action(results, folder):
    crate = ROCrate(folder)
    files = {entity.id: entity for entity in crate.data_entities}
    assert set(files) == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {
        "ro-crate-metadata.json"
    }
    for name, entity in files.items():
        content = (folder / name).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["contentSize"] == str(len(content))
    actions = {
        entity["name"]: entity for entity in crate.contextual_entities if entity.type == "CreateAction"
    }
    assert set(actions) == set(results.entries)
    made = actions["evaluate/all"]
    assert made["startTime"] == "2026-01-01T00:00:00Z"
    assert made["instrument"]["name"] == "GhostTrack stage evaluate"
    assert [entity.id for entity in made["result"]] == ["evaluate/all/final_report.json"]
    assert {entity.id for entity in made["object"]} == {
        "detect/all/hallucination_scores.json",
        "detect/all/detection_metrics.json",
    }


def test_every_reference_leads_to_an_entity(folder):
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    known = {entity["@id"] for entity in graph}
    assert len(known) == len(graph)

    def references(value):
        if isinstance(value, dict):
            if set(value) == {"@id"}:
                yield value["@id"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    dangling = {
        each
        for entity in graph
        for value in list(entity.values())
        for each in references(value)
        if each not in known
    }
    assert all(each.startswith(("http://", "https://")) for each in dangling), dangling


def test_it_survives_a_round_trip_through_the_library(folder, tmp_path):
    ROCrate(folder).write(tmp_path / "again")
    again = ROCrate(tmp_path / "again")
    assert {e.id for e in again.data_entities} == {e.id for e in ROCrate(folder).data_entities}
    assert again.name == "GhostTrack run made-up"


def test_an_unfinished_run_is_refused(tmp_path):
    make_run(tmp_path, questions=5, without=["evaluate/all"])
    with pytest.raises(MissingInputError, match="not finished"):
        write_crate(Results.open(str(tmp_path), "made-up"), tmp_path / "crate")


def test_a_folder_with_something_else_in_it_is_left_alone(results, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"is no RO-Crate"):
        write_crate(results, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_tampered_file_leaves_nothing_behind_and_can_be_tried_again(tmp_path):
    make_run(tmp_path, questions=5)
    [file] = (tmp_path / ".store/track").glob("*/tracks.parquet")  # others are copied before it
    good = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(good[:-9] + b"x" + good[-8:])
    with pytest.raises(CorruptInputError, match=r"tracks\.parquet"):
        write_crate(Results.open(str(tmp_path), "made-up"), tmp_path / "out/crate")
    assert list((tmp_path / "out").iterdir()) == []
    file.write_bytes(good)
    write_crate(Results.open(str(tmp_path), "made-up"), tmp_path / "out/crate")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["crate"]
    assert ROCrate(tmp_path / "out/crate").name == "GhostTrack run made-up"


def test_a_crate_is_written_over_and_what_lies_beside_it_stays(results, tmp_path):
    folder = tmp_path / "crate"
    write_crate(results, folder)
    (folder / "notes.txt").write_text("mine")
    write_crate(results, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(list(ROCrate(folder).data_entities)) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["crate"]


def test_manifests_that_go_in_a_circle_and_units_of_any_name_are_told():
    def made_of(*names):
        return {"all": SimpleNamespace(manifest=SimpleNamespace(input_digests=dict.fromkeys(names, "")))}

    assert _in_order({"b": made_of("a/all/x", "b/all/y"), "a": made_of()}) == ["a", "b"]
    with pytest.raises(CorruptInputError, match="made of each other"):
        _in_order({"a": made_of("b/all/x"), "b": made_of("a/all/y")})
    assert sorted(["layer_10", "layer_9", "layer_\u00b2"], key=_unit_order)[-2:] == [
        "layer_10",
        "layer_\u00b2",
    ]
