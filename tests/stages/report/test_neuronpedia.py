"""Latents as Neuronpedia's importer takes them: every column that its tables want, and the numbers of the run's own files."""

import gzip
import json

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.stages.report.paper.neuronpedia import activations, export, slug
from ghosttrack.stages.report.results import Results
from tests.stages.report.synthetic import make_run

PLACE = {"modelId", "layer", "index"}
WANTED = {  # what its tables have no default for (apps/webapp/prisma/schema.prisma)
    "model": {"id", "creatorId", "layers", "neuronsPerLayer", "owner"},
    "release": {"name", "description", "creatorName", "creatorId"},
    "sourceset": {"modelId", "name", "description", "creatorName", "creatorId"},
    "source": {"id", "modelId", "setName", "creatorId"},
    "features": PLACE,
    "activations": PLACE | {"id", "tokens", "maxValue", "maxValueTokenIndex", "minValue", "values", "creatorId"},
    "explanations": PLACE | {"id", "description", "authorId"},
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    make_run(root, "Made up", layers=3)
    results = Results.open(str(root), "Made up")
    config = load_config("demo", ["model.layers=0-2"], environ={})
    folder = export(results, config, root / "out", "someone")
    assert folder.name == "smollm2-135m-instruct-q4_1"
    return results, folder


def records(folder, kind):
    return [
        json.loads(line)
        for path in sorted(folder.glob(f"{kind}/batch-*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]


def test_every_layer_has_all_that_an_import_wants(found):
    _, folder = found
    assert sorted(path.name for path in folder.iterdir()) == [f"{layer}-res-made-up" for layer in range(3)]
    for source in folder.iterdir():
        for kind, columns in WANTED.items():
            several = kind in ("features", "activations", "explanations")
            rows = records(source, kind) if several else [json.loads((source / f"{kind}.jsonl").read_text())]
            assert rows, kind
            assert columns <= set(rows[0]), kind
            assert {tuple(row) for row in rows} == {tuple(rows[0])}  # its columns are those of the first line
            for row in rows:
                assert "someone" in (row.get("creatorId"), row.get("authorId"))
                if several:
                    assert (row["modelId"], row["layer"]) == (folder.name, source.name)
                if "id" in row and several:
                    assert row["id"].startswith(f"{folder.name}/{source.name}/{row['index']}")


def test_the_numbers_are_those_of_the_run(found):
    results, folder = found
    latents = {
        row["latent"]: row for row in LATENTS.table(results.path(LATENTS)).to_pylist() if row["layer"] == 1
    }
    features = {int(row["index"]): row for row in records(folder / "1-res-made-up", "features")}
    assert features.keys() == latents.keys()
    for number, row in features.items():
        latent = latents[number]
        assert (row["pos_str"], row["neg_values"]) == (latent["promoted"], latent["suppressed_by"])
        assert row["maxActApprox"] == latent["max_activation"]
        assert row["freq_hist_data_bar_heights"] == latent["histogram"]
        assert row["freq_hist_data_bar_values"][-1] == pytest.approx(latent["max_activation"] * 31 / 32)
    contexts = [row for row in LATENT_CONTEXTS.table(results.path(LATENT_CONTEXTS)).to_pylist() if row["layer"] == 1]  # fmt: skip
    rows = {row["id"]: row for row in records(folder / "1-res-made-up", "activations")}
    assert len(rows) == len(contexts)
    for context in contexts:
        row = rows[f"{folder.name}/1-res-made-up/{context['latent']}/{context['rank']}"]
        assert "".join(row["tokens"]) == context["before"] + context["token"] + context["after"]
        assert row["tokens"][row["qualifyingTokenIndex"]] == context["token"]
        assert row["values"][row["qualifyingTokenIndex"]] == pytest.approx(context["activation"], rel=2e-3)
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] == max(row["values"])
        assert row["binMin"] == row["binContains"] == -1  # among the most active
    labels = {int(row["index"]): row["description"] for row in records(folder / "1-res-made-up", "explanations")}  # fmt: skip
    assert labels == {number: row["label"] for number, row in latents.items() if row["label"]}


def test_ids_are_letters_digits_and_dashes():
    assert slug("SmolLM2-135M Instruct.Q4_1") == "smollm2-135m-instruct-q4_1"
    assert slug("модель") == "model"


def test_a_context_of_ordinary_strength_has_the_interval_that_it_is_in():
    latent = {"latent": 7, "max_activation": 8.0, "histogram": [0, 6, 3, 1]}
    row = {"rank": 12, "activation": 3.0, "before": "of", "token": " Oslo", "after": "", "lengths": [2, 5], "heat": [0.0, 3.0]}  # fmt: skip
    (found,) = activations(latent, [row], {"modelId": "m", "layer": "1-res-r"}, "someone")
    assert (found["binMin"], found["binMax"], found["binContains"]) == (2.0, 4.0, 0.6)
