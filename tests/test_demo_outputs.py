"""The finished demo: every file of the reference page's tree is there, opens, and says something.

Not part of `make test`: run `make demo` first, then `pytest -m demo`.
"""

import csv
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from docs.made_files import files
from ghosttrack.api.serving import Dashboard
from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import describe_layers
from ghosttrack.common.engine.contract import expand, load_contracts
from ghosttrack.common.formats.file import ARROW_NAMES as ARROW
from ghosttrack.common.formats.file import Table
from ghosttrack.common.formats.final_report import FinalReport
from ghosttrack.common.formats.ladder import LADDER, columns_of
from ghosttrack.common.formats.report import PICTURES
from tests.browser.chromium import Chromium, executable

pytestmark = pytest.mark.demo

CONFIG = load_config("demo")
ROOT = Path(CONFIG.paths.root)
CACHE = ROOT / "data/cache/demo"
SAES = ROOT / "models/checkpoints/demo"
TRACKING, DETECTION, EVALUATION = (
    ROOT / "results/demo" / name for name in ("tracking", "detection", "evaluation")
)


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True, mmap=path.stat().st_size > 1e7)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_every_file_of_every_contract_is_there_with_its_manifest() -> None:
    for contract in load_contracts():
        for unit in expand(contract, CONFIG):
            folder = ROOT / unit.folder
            names = [] if unit.publishes_folder else unit.writes
            for name in [*names, unit.manifest_name]:
                # Every row was read, so that none is listed.
                assert (folder / name).stat().st_size > 0 or name == "left_out.jsonl", folder / name


def test_tables_have_the_columns_that_are_described() -> None:
    folders = {
        name: ROOT / unit.folder
        for contract in load_contracts() for unit in expand(contract, CONFIG) for name in unit.writes
    }  # fmt: skip
    tables = [each for each in files().values() if isinstance(each, Table) and each.name in folders]
    assert len(tables) > 8
    for table in tables:
        schema = pq.read_schema(folders[table.name] / table.name)
        if table.name == LADDER.name:
            assert schema.names == columns_of(CONFIG.tracking.ladder)
            continue
        assert schema.names == table.names, table.name
        for column in table.columns:
            kind = str(schema.field(column.name).type).removeprefix("large_")
            assert kind.split("<")[0] == ARROW.get(column.type, column.type).split("<")[0], column


def test_the_reference_page_s_tree_is_there() -> None:
    layers = range(CONFIG.model.n_layers)
    expected = [
        *(TRACKING / name for name in ("hypothesis_trajectories.json", "semantic_clusters.pkl", "feature_activations.pt")),
        *(DETECTION / name for name in ("hallucination_scores.json", "classifications.csv", "detection_metrics.json")),
        *(EVALUATION / name for name in ("final_report.json", "confusion_matrix.png", "roc_curve.png")),
        *(SAES / f"sae_layer_{i}_best.pt" for i in layers),
        *(CACHE / "hidden_states" / f"layer_{i}_states.pt" for i in layers),
    ]  # fmt: skip
    assert [str(path) for path in expected if not path.is_file()] == []


def test_hidden_states_are_finite_and_aligned() -> None:
    index = load(CACHE / f"hidden_states/index_layers_{describe_layers(CONFIG.layers)}.pt")
    n_tokens = len(index["token"])
    assert n_tokens <= CONFIG.data.max_tokens
    assert 0 < index["held_out"].float().mean() < 0.5
    for layer in CONFIG.layers:
        states = load(CACHE / f"hidden_states/layer_{layer}_states.pt")["states"]
        assert states.shape == (n_tokens, CONFIG.model.d_model)
        assert bool(torch.isfinite(states[:500].float()).all())
        assert bool(states[:500].any())


def test_saes_open_and_keep_to_their_sparsity() -> None:
    for layer in CONFIG.layers:
        assert load(SAES / f"sae_layer_{layer}_best.pt")
        metrics = read_json(SAES / f"sae_layer_{layer}_metrics.json")
        assert metrics["l0"] == pytest.approx(CONFIG.sae.target_l0, rel=0.05), layer
        assert metrics["dead_fraction"] <= 0.01, layer
        assert 0 < metrics["fvu"] < 1, layer


def test_saes_are_measured_in_the_model_and_keep_their_identity() -> None:
    quality = read_json(SAES / "sae_quality.json")
    assert [layer["layer"] for layer in quality["layers"]] == CONFIG.layers
    for layer in quality["layers"]:
        assert 0 < layer["splice"]["kl_recovered"]["mean"] < 1, layer["layer"]
        assert 0 < layer["splice"]["ce_recovered"]["zero"] <= 1.05, layer["layer"]
    # Thirty small SAEs at once do more harm than ablation (docs/SAES.md); none alone does.
    alone = min(layer["splice"]["kl_recovered"]["zero"] for layer in quality["layers"])
    assert quality["all_layers"]["kl_recovered"]["zero"] < alone
    for pair in quality["identity"]["adjacent"]:
        assert pair["self_match"] >= 0.95, pair["layer"]
    assert quality["identity"]["random"]["self_match"] < 0.005


def test_the_model_answered_enough_questions_some_right_some_wrong() -> None:
    lines = (TRACKING / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    labels = [answer["label"] for answer in answers if answer["label"] is not None]
    assert len(labels) >= 600
    assert 0.2 <= labels.count(0) / len(labels) <= 0.6
    assert len({answer["relation"] for answer in answers}) >= 10


def test_tracking_files_open() -> None:
    assert read_json(TRACKING / "hypothesis_trajectories.json")
    assert load(TRACKING / "feature_activations.pt")
    with (TRACKING / "semantic_clusters.pkl").open("rb") as file:
        assert pickle.load(file)


def test_every_question_has_a_score() -> None:
    lines = (TRACKING / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    labelled = {answer["id"] for answer in map(json.loads, lines) if answer["label"] is not None}
    with (DETECTION / "classifications.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert labelled <= {row["id"] for row in rows}
    assert read_json(DETECTION / "hallucination_scores.json")
    assert read_json(DETECTION / "detection_metrics.json")


def test_questions_on_other_relations_are_unfamiliar_and_its_own_are_not() -> None:
    familiarity = read_json(DETECTION / "detection_metrics.json")["familiarity"]
    assert familiarity["relations"] >= 0.8  # held out whole
    assert familiarity["test"] <= 0.1  # one in twenty, on a frozen test of some sixty


def test_the_final_report_answers_whether_tracking_helps() -> None:
    report = FinalReport.model_validate(read_json(EVALUATION / "final_report.json"))
    assert report.headline.helps is not None
    assert {split.split for split in report.splits} >= {"grouped", "test", "relations"}
    kinds = [method.kind for method in report.methods]
    assert kinds.count("baseline") >= 8
    assert kinds.count("rung") >= 5
    for method in report.splits[0].methods:
        figure = method.figures.auroc
        assert figure.low is not None, method.name
        assert figure.value is not None, method.name
        assert figure.high is not None, method.name
        assert figure.low <= figure.value <= figure.high, method.name
    assert report.permutation is not None
    assert 0.45 < report.permutation.mean < 0.55


@pytest.mark.parametrize(
    "path",
    [
        *(EVALUATION / picture.name for picture in PICTURES),
        SAES / "sae_identity.png",
        SAES / "sae_layer_7.png",
    ],
    ids=lambda path: path.name,
)
def test_a_plot_opens_and_shows_something(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) >= 300
    assert pixels.std() > 5


def test_the_report_is_there() -> None:
    assert "#" in (ROOT / "results/demo/report/report.md").read_text(encoding="utf-8")


def test_the_served_page_asks_the_model_and_takes_a_track_out() -> None:
    if executable() is None:
        pytest.skip("there is no Chromium (.ci/install-browser)")
    with Dashboard(CONFIG) as server, Chromium() as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.call("Page.navigate", url=server.address)
        page.wait("document.documentElement.dataset.ready")
        page.go("#/ask")
        page.run(
            "document.getElementById('ask').value = 'The capital of Peru is'; document.querySelector('form.ask').requestSubmit()"
        )
        page.wait("document.getElementById('content').dataset.shown?.startsWith('#/question/new')", 240)
        assert "Asked “The capital of Peru is”, the model said" in page.text()
        page.run(
            "document.querySelector('form.takeout option').selected = true; document.querySelector('form.takeout').requestSubmit()"
        )
        page.wait("document.querySelector('form.takeout ~ div .finding') !== null", 120)
        assert "Without them the model says" in page.text()
        assert page.console == []
        server.shutdown()
