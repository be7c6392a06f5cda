"""A made-up run whose truth is known: answers and tracks in the files that `track` publishes.

Wrong answers' tracks are born and die more often and share the activation more evenly, by `strength`; at 0 the
tracks know nothing of the label. Relations differ in difficulty and log-probabilities in a weaker signal of their own.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from common.config import Config
from common.contract import expand, load_contract
from common.stage import Job

ROOT = Path(__file__).resolve().parents[3]
EXCLUDED = {"empty": 0.01, "echo": 0.01}


def config(**changes: Any) -> Config:
    return Config.model_validate(
        {
            "name": "made-up",
            "model": {"base_model": "none", "d_model": 8, "n_layers": 6},
            "sae": {"d_hidden": 64, "target_l0": 8},
            "detection": {"detectors": ["tracks"], "folds": 4, "inner_folds": 3},
            "evaluation": {"bootstrap": 200},
            **changes,
        }
    )


def answers(n: int, strength: float = 1.0, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Lines of generations.jsonl, and the hidden wrongness [n] that the tracks are drawn from."""
    rng = np.random.default_rng(seed)
    relation = rng.integers(0, 5, n)
    wrong = (rng.random(n) < np.array([0.2, 0.4, 0.6, 0.7, 0.9])[relation]).astype(int)
    lines = []
    for i in range(n):
        reason = next((r for r, share in EXCLUDED.items() if rng.random() < share), None)
        n_tokens = 0 if reason == "empty" else int(rng.integers(1, 5))
        lines.append(
            {
                "id": f"q{i}",
                "relation": f"relation {relation[i]}",
                "subject": f"subject {i // 2}",
                "group": f"g{i // 2}",
                "prompt": f"Example: yes\nSubject {i // 2} has the attribute",
                "answer": " ".join(["word"] * n_tokens),
                "gold": f"gold {i}",
                "aliases": [f"gold {i}"],
                "label": None if reason else int(wrong[i]),
                "excluded": reason,
                "token_ids": list(range(n_tokens)),
                "tokens": ["word"] * n_tokens,
                "logprobs": (-rng.exponential(0.5 + 0.5 * strength * wrong[i], n_tokens)).tolist(),
                "entropies": rng.exponential(1 + 0.5 * strength * wrong[i], n_tokens).tolist(),
            }
        )
    return lines, wrong


def tracks(
    lines: list[dict[str, Any]], wrong: np.ndarray, layers: list[int], width: int = 8, strength: float = 1.0,
    seed: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """tracks.parquet: `width` tracks alive in every layer of every position."""
    rng = np.random.default_rng(seed)
    depth = len(layers)
    tables = []
    for question, line in enumerate(lines):
        for position in range(len(line["tokens"]) + 1):
            signal = strength * wrong[question] + rng.normal(0, 0.5)
            born = rng.random((width, depth)) < 1 / (1 + np.exp(1.2 - signal))
            born[:, 0] = True
            activation = rng.gamma(2.0 + signal.clip(-1), 1.0, (width, depth)) + 1e-3
            tables.append(
                pd.DataFrame(
                    {
                        "question": np.int32(question),
                        "position": np.int16(position),
                        "track": (np.cumsum(born) - 1).astype(np.int32),
                        "layer": np.tile(np.array(layers, dtype=np.int16), width),
                        "latent": rng.integers(0, 64, width * depth).astype(np.int32),
                        "activation": activation.ravel().astype(np.float32),
                        "link": np.where(born, np.nan, rng.uniform(0.5, 1, born.shape))
                        .ravel()
                        .astype(np.float32),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def write_track_unit(folder: Path, lines: list[dict[str, Any]], table: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generations.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    table.to_parquet(folder / "tracks.parquet", index=False)
    return folder


def job(stage: str, settings: Config, folder: Path, inputs: dict[str, Path]) -> Job:
    """A job of a stage that reads from plain folders and writes to `folder`."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    [unit] = expand(load_contract(ROOT / "stages" / stage), settings)
    entries = {
        name: SimpleNamespace(
            path=path, file=path.joinpath, manifest=None, key="0" * 64, manifest_sha256="1" * 64
        )
        for name, path in inputs.items()
    }
    return Job(settings, unit, logging.getLogger("test"), folder, cast(Any, entries))


def published(folder: Path) -> Path:
    return folder / "out"


def write_sae_quality(
    folder: Path, layers: list[int], l0: float = 64.0, mse: float = 0.005
) -> dict[str, Path]:
    """sae_quality.json of these layers."""
    recovered = {"ce_recovered": {"zero": 0.98, "mean": 0.9}, "kl_recovered": {"zero": 0.97, "mean": None}}
    quality = {
        "schema_version": 1,
        "layers": [
            {"layer": layer, "l0": l0, "fvu": 0.2, "mse": mse, "dead_fraction": 0.01, "splice": recovered}
            for layer in layers
        ],
        "all_layers": {**recovered, "error_by_depth": [{"layer": layer, "fvu": 0.4} for layer in layers]},
        "identity": {"adjacent": [{"layer": layer, "self_match": 0.995} for layer in layers[:-1]]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sae_quality.json").write_text(json.dumps(quality))
    return {"sae_train/quality": folder}


def run_all(folder: Path, n: int = 160, strength: float = 0.7, seed: int = 0) -> Path:
    """detect on made-up tracks."""
    from stages.detect.run import run as detect

    settings = config(detection={"detectors": ["tracks", "logits"], "folds": 4, "inner_folds": 3})
    lines, wrong = answers(n, strength, seed)
    units = {
        "track/all": write_track_unit(folder / "track", lines, tracks(lines, wrong, settings.layers, strength=strength)),
    }  # fmt: skip
    detect(job("detect", settings, folder / "detect", units))
    return folder
