"""The unit `quality` from files to files, on a tiny model with three SAEs: two trained here, one from elsewhere."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.image import imread

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import CorruptInputError, ModelMismatchError
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train import pages, quality, splice
from ghosttrack.stages.sae_train.evaluate import Tally
from ghosttrack.stages.sae_train.run import run
from tests.jobs import job_of, unit_of
from tests.stages.sae_train import spliced
from tests.stages.sae_train.synthetic import config
from tests.stages.sae_train.test_pages import record
from tests.tiny_models import D_MODEL, N_LAYERS, save_random_model

LAYERS = list(range(N_LAYERS))
IMPORTED = 2
SETTINGS = config(
    LAYERS, model={"d_model": D_MODEL, "n_layers": N_LAYERS}, sae={"d_hidden": spliced.D_HIDDEN},
    sae_training={"splice_tokens": 50},
).model_copy(update={"extract": config([0]).extract.model_copy(update={"max_length": spliced.LENGTH})})  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the unit reads, a folder each."""
    folder = tmp_path_factory.mktemp("inputs")
    save_random_model(folder / "model", "gpt2")
    corpus = spliced.corpus()
    n_docs = len(spliced.SEGMENTS)
    (folder / "corpus").mkdir()
    torch.save(
        {"tokens": corpus.token, "doc": corpus.doc, "position": corpus.position,
         "doc_held_out": torch.arange(n_docs) > 0, "doc_kind": torch.zeros(n_docs, dtype=torch.uint8)},
        folder / "corpus" / "corpus.pt",
    )  # fmt: skip
    for layer in LAYERS:
        unit = folder / f"layer_{layer}"
        unit.mkdir()
        spliced.random_sae(layer).save(unit / f"sae_layer_{layer}_best.pt")
        metrics = {"layer": layer, "target_l0": 12.0, "pretrained": True, "source": "a folder"}
        if layer != IMPORTED:
            metrics = {**record(layer), "target_l0": 12.0}
            del metrics["measured_on"], metrics["splice"]
        (unit / f"sae_layer_{layer}_metrics.json").write_text(json.dumps(metrics))
    return folder


def job(folder: Path, inputs: Path) -> Job:
    work = unit_of("sae_train", SETTINGS, "quality")
    entries = {
        read.name: SimpleNamespace(path=inputs / read.unit, file=(inputs / read.unit).joinpath)
        for read in work.reads
    }
    return job_of(work, SETTINGS, folder, entries)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("quality")
    return folder, run(job(folder, inputs))


@pytest.fixture
def report(finished: tuple[Path, Any]) -> dict[str, Any]:
    text = (finished[0] / "out/sae_quality.json").read_text()
    return json.loads(text, parse_constant=pytest.fail)  # type: ignore[no-any-return]


def test_every_file_of_the_contract_is_written(finished: tuple[Path, Any], inputs: Path) -> None:
    names = {path.name for path in (finished[0] / "out").iterdir()}
    assert names == set(job(finished[0], inputs).work.writes)
    assert names == {"sae_quality.json", "sae_identity.png", *(f"sae_layer_{n}.png" for n in LAYERS)}
    for name in names - {"sae_quality.json"}:
        assert imread(finished[0] / "out" / name).shape[1] > 1400


def test_figures_are_those_of_one_batch_of_everything(report: dict[str, Any], inputs: Path) -> None:
    """Put together from batches, against all the text at once."""
    model = load_language_model(inputs / "model")
    plan = job(inputs.parent / "unused", inputs)
    text = quality.held_out(plan, model)
    saes = {layer: spliced.random_sae(layer) for layer in LAYERS}
    clean = splice.read_clean(model, text, LAYERS)
    n = int(text.predicts.sum())
    assert report["text"]["predictions"] == n
    assert report["text"]["tokens"] == int(text.real.sum()) <= 50
    assert report["text"]["ce"] == pytest.approx(clean.ce / n, rel=1e-5)
    kept = text.position > 0
    means = {layer: clean.states[layer][kept].mean(0) for layer in LAYERS}
    for layer, found in zip(LAYERS, report["layers"], strict=True):
        assert found["layer"] == layer
        losses = splice.layer_alone(model, clean, saes[layer], means[layer], layer)
        expected = splice.recovery(losses, clean.ce, n)
        assert list(flat(found["splice"])) == [(name, near(value)) for name, value in flat(expected)]
    losses, errors = splice.all_layers(model, clean, saes, means)
    expected = splice.recovery(losses, clean.ce, n)
    assert report["all_layers"]["kl"] == pytest.approx(expected["kl"], rel=1e-3)
    for found in report["all_layers"]["error_by_depth"]:
        states = clean.states[found["layer"]][kept]
        spread = float((states - states.mean(0)).square().sum())
        assert found["fvu"] == pytest.approx(errors[found["layer"]] / spread, rel=1e-3)
    first = report["all_layers"]["error_by_depth"][0]
    assert first["fvu"] == pytest.approx(first["fvu_alone"], rel=1e-3), "nothing is lost before the first SAE"


def test_a_layer_s_own_metrics_are_kept_and_an_imported_one_s_are_measured_here(
    report: dict[str, Any], inputs: Path
) -> None:
    own = {name: value for name, value in record(0).items() if name not in ("measured_on", "splice")}
    first = report["layers"][0]
    assert first.items() >= {**own, "target_l0": 12.0}.items()
    assert first["measured_on"] == "held_out_states"
    imported = report["layers"][IMPORTED]
    assert imported["measured_on"] == "splice"
    assert (imported["pretrained"], imported["source"]) == (True, "a folder")
    model = load_language_model(inputs / "model")
    text = quality.held_out(job(inputs.parent / "unused", inputs), model)
    sae = spliced.random_sae(IMPORTED)
    states = splice.read_clean(model, text, [IMPORTED]).states[IMPORTED][text.real].double()
    kept = states[(text.position > 0)[text.real]]
    acts = sae.encode(kept.float())
    error = (sae.decode(acts).double() - kept).square().sum()
    assert imported["fvu"] == pytest.approx(float(error / (kept - kept.mean(0)).square().sum()), rel=1e-4)
    assert imported["mse"] == pytest.approx(float(error) * sae.scale**2 / kept.numel(), rel=1e-4)
    assert imported["l0"] == pytest.approx(float((acts > 0).sum(1).float().mean()))
    assert imported["held_out_tokens"] == len(kept)
    assert sum(imported["l0_histogram"]["counts"]) == len(kept)
    never = int((acts == 0).all(0).sum())
    rates = imported["firing_rate_histogram"]
    assert (rates["never"], sum(rates["counts"])) == (never, spliced.D_HIDDEN - never)
    assert imported["dead_fraction"] == pytest.approx(never / spliced.D_HIDDEN)


def test_the_manifest_gets_a_summary(finished: tuple[Path, Any], report: dict[str, Any]) -> None:
    summary = finished[1]
    kl = [layer["splice"]["kl_recovered"]["mean"] for layer in report["layers"]]
    assert summary["kl_recovered_mean_ablation"] == pytest.approx(sum(kl) / len(kl))
    matches = [pair["self_match"] for pair in report["identity"]["adjacent"]]
    assert len(matches) == N_LAYERS - 1
    assert summary["self_match_min"] == min(matches)
    assert summary["all_layers_fvu_at_the_end"] == report["all_layers"]["error_by_depth"][-1]["fvu"]


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_and_comes_to_the_same_files(
    finished: tuple[Path, Any], tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SETTINGS.extract.batch_size > 1
    done: list[int] = []
    alone = splice.layer_alone

    def dies_in_the_second(*arguments: Any) -> splice.Losses:
        if len(done) == 1:
            raise Killed
        done.append(arguments[-1])
        return alone(*arguments)

    monkeypatch.setattr(splice, "layer_alone", dies_in_the_second)
    with pytest.raises(Killed):
        run(job(tmp_path, inputs))
    assert not (tmp_path / "out/sae_quality.json").exists()

    def counts(*arguments: Any) -> splice.Losses:
        done.append(arguments[-1])
        return alone(*arguments)

    monkeypatch.setattr(splice, "layer_alone", counts)
    run(job(tmp_path, inputs))
    assert done == LAYERS, "nothing twice"
    for path in sorted((finished[0] / "out").iterdir()):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_several_batches_come_to_the_same_figures(
    report: dict[str, Any], tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "HELD_NUMBERS", 1)
    run(job(tmp_path, inputs))
    assert (tmp_path / "steps/splice_1_all.json").exists()
    found = json.loads((tmp_path / "out/sae_quality.json").read_text())
    assert list(flat(found)) == [(name, near(value)) for name, value in flat(report)]


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text of nested data, with its path."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, f"{name}/{key}")
    else:
        yield name, value


def spoilt(inputs: Path, folder: Path) -> Path:
    shutil.copytree(inputs, folder)
    return folder


@pytest.mark.parametrize("content", ["{", "[]", '{"layer": 0}', '{"target_l0": 3}'])
def test_bad_metrics_are_one_clear_error(tmp_path: Path, inputs: Path, content: str) -> None:
    folder = spoilt(inputs, tmp_path / "inputs")
    (folder / "layer_1/sae_layer_1_metrics.json").write_text(content)
    with pytest.raises(CorruptInputError, match=r"sae_layer_1_metrics\.json .*run sae_train again"):
        run(job(tmp_path / "job", folder))


def test_a_sae_of_another_width_is_one_clear_error(tmp_path: Path, inputs: Path) -> None:
    folder = spoilt(inputs, tmp_path / "inputs")
    sae = spliced.random_sae(1)
    wide = {
        "W_enc": torch.zeros(40, 48),
        "W_dec": torch.zeros(48, 40),
        "b_dec": torch.zeros(40),
        "mean": torch.zeros(40),
    }
    JumpReLUSAE(**{**vars(sae), **wide}).save(folder / "layer_1/sae_layer_1_best.pt")
    with pytest.raises(ModelMismatchError, match="width 40"):
        run(job(tmp_path / "job", folder))


def test_a_damaged_corpus_is_one_clear_error(tmp_path: Path, inputs: Path) -> None:
    folder = spoilt(inputs, tmp_path / "inputs")
    (folder / "corpus/corpus.pt").write_bytes(b"nothing")
    with pytest.raises(CorruptInputError, match="prepare stage"):
        run(job(tmp_path / "job", folder))


def test_a_layer_that_is_dead_or_alone_has_a_page_all_the_same(tmp_path: Path) -> None:
    """A SAE of zeros, of which no latent ever fires; a model of one layer has no neighbours."""
    tally = Tally(spliced.zero_sae(0))
    states = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(0))
    tally.add(states, torch.ones(50, dtype=torch.bool))
    figures = tally.figures()
    assert (figures["l0"], figures["dead_fraction"], figures["firing_rate_histogram"]["never"]) == (
        0,
        1,
        2 * D_MODEL,
    )
    assert figures["l0_histogram"] == {"edges": [0, 1], "counts": [50]}
    entry = {**record(0), **figures}
    whole = {
        "layers": [entry], "text": {"tokens": 50},
        "all_layers": {**entry["splice"], "error_by_depth": [{"layer": 0, "fvu": 1.0, "fvu_alone": 1.0}]},
        "identity": {"adjacent": [], "to_first": [],
                     "random": {"cosine": 0.0, "cosine_quantiles": {"0.05": -0.1, "0.95": 0.1}, "nearest_cosine": 0.2,
                                "self_match": 0.01}},
    }  # fmt: skip
    pages.layer_page(entry, whole).savefig(tmp_path / "layer.png", dpi=pages.DPI)
    pages.identity_page(whole).savefig(tmp_path / "depth.png", dpi=pages.DPI)
    assert imread(tmp_path / "layer.png").std() > 0.05
