"""The stage from files to files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ghosttrack.common.errors import CorruptInputError, ModelMismatchError, NumericError
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train.run import run, run_together
from tests.stages.sae_train.synthetic import config, job, sparse_states, write_extract

LAYERS = [1, 2]


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extract")
    states = sparse_states(2400, 24, 40, 4)
    drifted = states @ (torch.eye(24) + 0.1 * torch.randn(24, 24, generator=torch.Generator().manual_seed(5)))
    write_extract(folder, {1: states, 2: 20 * drifted})
    return folder


def run_all(root: Path, extract: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    settings = config(LAYERS, **changes)
    return {unit: run(job(settings, unit, root, extract)) for unit in ["base", "layer_1", "layer_2"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, extract: Path) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("run")
    return root, run_all(root, extract)


def test_every_file_of_the_contract_is_written(finished: tuple[Path, Any]) -> None:
    root, _ = finished
    assert {p.name for p in (root / "base" / "out").iterdir()} == {"sae_base.pt", "base_metrics.json"}
    for layer in LAYERS:
        names = {p.name for p in (root / f"layer_{layer}" / "out").iterdir()}
        assert names == {f"sae_layer_{layer}_best.pt", f"sae_layer_{layer}_metrics.json"}


def test_the_published_sae_does_what_its_metrics_say(finished: tuple[Path, Any], extract: Path) -> None:
    root, _ = finished
    index = torch.load(extract / "index.pt")
    for layer in LAYERS:
        sae = JumpReLUSAE.load(root / f"layer_{layer}/out/sae_layer_{layer}_best.pt", d_model=24, layer=layer)
        metrics = json.loads((root / f"layer_{layer}/out/sae_layer_{layer}_metrics.json").read_text())
        states = torch.load(extract / f"layer_{layer}_states.pt")["states"].double()
        states = states[index["held_out"] & (index["position"] > 0)]
        acts = sae.encode(states)
        error = (sae.decode(acts) - states).square().sum() / (states - states.mean(0)).square().sum()
        assert metrics["fvu"] == pytest.approx(float(error), rel=1e-2)
        assert metrics["l0"] == pytest.approx(float((acts > 0).sum(1).float().mean()), rel=1e-3)
        assert metrics["l0"] == pytest.approx(6, rel=0.05)
        assert metrics["l0_unseen"] == [pytest.approx(6, rel=0.05)] * 2
        assert metrics["l0_unseen_relative_error"] == max(abs(l0 / 6 - 1) for l0 in metrics["l0_unseen"])
        assert metrics["fvu"] < 0.5
        assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(64), atol=1e-5)


def test_latents_keep_their_identity_from_layer_to_layer(finished: tuple[Path, Any]) -> None:
    root, metrics = finished
    first, second = (
        JumpReLUSAE.load(root / f"layer_{layer}/out/sae_layer_{layer}_best.pt").W_dec for layer in LAYERS
    )
    match = (first @ second.T).argmax(1) == torch.arange(64)
    assert match.float().mean() > 0.9
    assert metrics["layer_1"]["base_self_match"] > 0.9


def test_a_second_run_writes_the_same_bytes(
    finished: tuple[Path, Any], tmp_path: Path, extract: Path
) -> None:
    root, _ = finished
    run_all(tmp_path, extract)
    for path in sorted(root.glob("*/out/*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(root)).read_bytes(), path.name


def test_layers_side_by_side_write_the_same_bytes(
    finished: tuple[Path, Any], tmp_path: Path, extract: Path
) -> None:
    root, _ = finished
    settings = config(LAYERS, sae_training={"layers_together": 2})
    run(job(settings, "base", tmp_path, extract))
    jobs = [job(settings, f"layer_{layer}", tmp_path, extract) for layer in LAYERS]
    assert [each.work.together for each in jobs] == [2, 2]
    run_together(jobs)
    for path in sorted(root.glob("*/out/*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(root)).read_bytes(), path.name


def test_how_long_it_took_goes_to_the_manifest_and_not_into_the_files(finished: tuple[Path, Any]) -> None:
    root, metrics = finished
    for unit, file in (("base", "base_metrics.json"), ("layer_1", "sae_layer_1_metrics.json")):
        written = json.loads((root / unit / "out" / file).read_text())
        assert metrics[unit]["seconds"] > 0
        assert metrics[unit].items() >= written.items()
        assert "seconds" not in written


def test_independent_saes_do_not_look_at_the_base(tmp_path: Path, extract: Path) -> None:
    metrics = run_all(tmp_path, extract, sae={"shared_base": False})
    assert metrics["base"]["trained"] is False
    assert "base_cosine" not in metrics["layer_1"]
    first, second = (
        JumpReLUSAE.load(tmp_path / f"layer_{layer}/out/sae_layer_{layer}_best.pt").W_dec for layer in LAYERS
    )
    assert ((first @ second.T).argmax(1) == torch.arange(64)).float().mean() < 0.3


def test_a_twin_has_the_same_tokens_and_no_base(
    finished: tuple[Path, Any], tmp_path: Path, extract: Path
) -> None:
    _, metrics = finished
    settings = config(LAYERS, sae={"independent_twin": True})
    found = {layer: run(job(settings, f"independent_{layer}", tmp_path, extract)) for layer in LAYERS}
    seen = metrics["base"]["curve"]["tokens"][-1] / len(LAYERS) + metrics["layer_1"]["training_tokens"]
    assert found[1]["training_tokens"] == pytest.approx(seen, abs=settings.sae_training.batch_size)
    assert "base_cosine" not in found[1]
    twins = [
        JumpReLUSAE.load(
            tmp_path / f"independent_{layer}/out/sae_layer_{layer}_independent.pt", layer=layer
        ).W_dec
        for layer in LAYERS
    ]
    assert ((twins[0] @ twins[1].T).argmax(1) == torch.arange(64)).float().mean() < 0.3
    written = json.loads((tmp_path / "independent_1/out/sae_layer_1_independent_metrics.json").read_text())
    assert written["l0"] == pytest.approx(6, rel=0.05)


def test_twins_side_by_side_with_the_others_write_the_same_bytes(
    finished: tuple[Path, Any], tmp_path: Path, extract: Path
) -> None:
    root, _ = finished
    settings = config(LAYERS, sae={"independent_twin": True}, sae_training={"layers_together": 2})
    run(job(settings, "independent_1", tmp_path / "alone", extract))
    run(job(settings, "base", tmp_path, extract))
    run_together([job(settings, unit, tmp_path, extract) for unit in ("layer_1", "independent_1")])
    for path in [*root.glob("layer_1/out/*"), *(tmp_path / "alone").glob("*/out/*")]:
        start = tmp_path / "alone" if path.is_relative_to(tmp_path) else root
        assert path.read_bytes() == (tmp_path / path.relative_to(start)).read_bytes(), path.name


def spoil(extract: Path, folder: Path, states: torch.Tensor) -> Path:
    shutil.copytree(extract, folder)
    torch.save({"states": states}, folder / "layer_2_states.pt")
    return folder


@pytest.mark.parametrize(
    ("states", "error", "words"),
    [
        (torch.full((2400, 24), float("nan")).half(), NumericError, "layer 2: .*NaN"),
        (torch.zeros(2400, 24), NumericError, "layer 2: .*all zero"),
        (torch.ones(2400, 24), NumericError, "layer 2: .*same for every token"),
        (torch.randn(2400, 32), ModelMismatchError, r"layer 2: .*32\].*d_model is 24"),
        (torch.randn(2000, 24), CorruptInputError, "2000 states but 2400 tokens"),
    ],
)
def test_bad_states_stop_the_stage(
    tmp_path: Path, extract: Path, finished: tuple[Path, Any], states: torch.Tensor, error: type[Exception],
    words: str,
) -> None:  # fmt: skip
    folder = spoil(extract, tmp_path / "extract", states)
    with pytest.raises(error, match=words):
        run(job(config(LAYERS), "base", tmp_path, folder))
    shutil.copytree(finished[0] / "base", tmp_path / "layers" / "base")
    with pytest.raises(error, match=words):
        run(job(config(LAYERS), "layer_2", tmp_path / "layers", folder))


def test_a_damaged_index_or_base_stops_the_stage(
    tmp_path: Path, extract: Path, finished: tuple[Path, Any]
) -> None:
    folder = spoil(extract, tmp_path / "extract", sparse_states(2400, 24, 40, 4))
    (folder / "index.pt").write_bytes(b"nothing")
    with pytest.raises(CorruptInputError, match=r"index\.pt"):
        run(job(config(LAYERS), "base", tmp_path, folder))
    root = tmp_path / "root"
    (root / "base" / "out").mkdir(parents=True)
    (root / "base" / "out" / "sae_base.pt").write_bytes(b"nothing")
    with pytest.raises(CorruptInputError, match=r"sae_base\.pt"):
        run(job(config(LAYERS), "layer_1", root, extract))
