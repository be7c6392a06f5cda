"""A made-up run whose truth is known: answers and tracks in the files that `track` publishes.

Wrong answers' tracks are born and die more often and share the activation more evenly, by `strength`; at 0 the
tracks know nothing of the label. Relations differ in difficulty and log-probabilities in a weaker signal of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from ghosttrack.common.config.schema import Config, DetectionConfig
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.reasons import KINDS, REASONS
from ghosttrack.stages.detect.evidence import PlacedStates
from tests.jobs import job_of, unit_of

ROOT = Path(__file__).resolve().parents[3]
EXCLUDED = {"empty": 0.01, "echo": 0.01}


def plan(repeats: int, folds: int, inner: int, relations: int, answers: int) -> DetectionConfig:
    """How finely rows are divided."""
    return DetectionConfig(
        repeats=repeats, folds=folds, inner_folds=inner, relation_folds=relations, answer_folds=answers
    )


def config(**changes: Any) -> Config:
    return Config.model_validate(
        {
            "name": "made-up",
            "model": {"base_model": "none", "d_model": 8, "n_layers": 6},
            "sae": {"d_hidden": 64, "target_l0": 8},
            "tracking": {"ladder": ["none", "random"]},
            "detection": {
                "repeats": 1,
                "folds": 3,
                "inner_folds": 2,
                "relation_folds": 2,
                "answer_folds": 0,
                "permutations": 20,
                "early_points": 2,
            },
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
                "prompt": f"Example: yes\nSubject {i // 2} has the attribute {i % 2}",
                "query": (query := f"Subject {i // 2} has the attribute {i % 2}"),
                "question": query,
                "answer": " ".join(["word"] * n_tokens),
                "gold": f"gold {i}",
                "aliases": [f"gold {i}"],
                "label": None if reason else int(wrong[i]),
                "excluded": reason,
                "token_ids": list(range(n_tokens)),
                "tokens": ["word"] * n_tokens,
                "logprobs": (-rng.exponential(0.5 + 0.5 * strength * wrong[i], n_tokens)).tolist(),
                "strict_label": None if reason else int(wrong[i]),
                "subject_found": i % 7 != 0,
                "entropies": rng.exponential(1 + 0.5 * strength * wrong[i], n_tokens).tolist(),
            }
        )
    return lines, wrong


def places(lines: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """(question, position) of all that is read, in order."""
    return [
        (question, position)
        for question, line in enumerate(lines)
        for position in range(-1 if line["subject_found"] else 0, len(line["tokens"]) + 1)
    ]


def tracks(
    lines: list[dict[str, Any]], wrong: np.ndarray, layers: list[int], width: int = 8, strength: float = 1.0,
    seed: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """tracks.parquet: `width` tracks alive in every layer of every position."""
    rng = np.random.default_rng(seed)
    depth = len(layers)
    tables = []
    for question, position in places(lines):
        signal = strength * wrong[question] + rng.normal(0, 0.5)
        born = rng.random((width, depth)) < 1 / (1 + np.exp(1.2 - signal))
        born[:, 0] = True
        activation = rng.gamma(2.0 + signal.clip(-1), 1.0, (width, depth)) + 1e-3
        tables.append(
            pd.DataFrame(
                {
                    "question": np.int32(question),
                    "position": np.int16(position),
                    "layer": np.tile(np.array(layers, dtype=np.int16), width),
                    "latent": rng.integers(0, 64, width * depth).astype(np.int32),
                    "activation": activation.ravel().astype(np.float32),
                    "track": (np.cumsum(born) - 1).astype(np.int16),
                    "link": np.where(born, np.nan, rng.uniform(0.5, 1, born.shape))
                    .ravel()
                    .astype(np.float32),
                    "posterior": np.float32(1),
                    "existence": np.float32(1),
                    "effect": rng.normal(-signal, 1.0, width * depth).astype(np.float32),
                }
            )
        )
    table = pd.concat(tables, ignore_index=True)
    order = ["question", "position", "layer", "activation"]
    return table.sort_values(order, ascending=[True, True, True, False], ignore_index=True)


def ladder(table: pd.DataFrame, seed: int = 2) -> pd.DataFrame:
    """ladder.parquet: no association, and a random one that knows nothing of the label."""
    rng = np.random.default_rng(seed)
    cell = table.groupby(["question", "position"])
    layer_rank = table.groupby(["question", "position", "layer"]).cumcount()
    broken = rng.random(len(table)) < 0.3
    return pd.DataFrame(
        {
            "none_track": cell.cumcount().astype(np.int16),
            "none_link": np.full(len(table), np.nan, dtype=np.float16),
            "random_track": (layer_rank + 100 * broken * (table["layer"] + 1)).astype(np.int16),
            "random_link": rng.uniform(0, 0.2, len(table)).astype(np.float16),
        }
    )


def layer_table(lines: list[dict[str, Any]], wrong: np.ndarray, layers: list[int]) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [(q, p, layer) for q, p in places(lines) for layer in layers]
    frame = pd.DataFrame(rows, columns=["question", "position", "layer"])
    names = [
        "n_active",
        "births",
        "deaths",
        "association_entropy",
        "discarded_mass",
        "margin",
        "competition_entropy",
    ]
    for name in names:
        frame[name] = rng.normal(size=len(rows)).astype(np.float32)
    frame["error"] = rng.uniform(0.1, 0.5, len(rows)).astype(np.float32)
    frame["leader"] = rng.integers(0, 3, len(rows)).astype(np.int16)
    return frame


def context_table(lines: list[dict[str, Any]], strength: float, contexts: int = 3) -> pd.DataFrame:
    """contexts.parquet: the own answer and another; what is wrong is less likely in the contexts that did not choose it."""
    rng, rows = np.random.default_rng(6), []
    for question, line in enumerate(lines):
        wrong = strength * (line["label"] or 0)
        for context in range(contexts + 1):
            own = float(sum(line["logprobs"])) if context == 0 else -rng.exponential(1 + 3 * wrong)
            other = -rng.exponential(2.0)
            for hypothesis, value in enumerate((own, other)):
                rows.append(
                    (question, context, hypothesis, f"answer {hypothesis}", value, value - 0.1, len(line["tokens"]),
                     bool(context and rng.random() < 0.2), (hypothesis == 0) == (own >= other or context == 0))
                )  # fmt: skip
    frame = pd.DataFrame(rows, columns=EVIDENCE.names)
    return frame.astype({column.name: column.type for column in EVIDENCE.columns if column.type != "string"})


def write_track_unit(
    folder: Path, lines: list[dict[str, Any]], table: pd.DataFrame, strength: float = 0.7
) -> Path:
    """The files of track/answers, track/contexts and track/all in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generations.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    layers, rng = config().layers, np.random.default_rng(4)
    wrong = np.array([line["label"] or 0 for line in lines])
    owner = np.array(places(lines))
    states = rng.normal(size=(len(owner), len(layers), 8)) + 0.3 * strength * wrong[owner[:, 0], None, None]
    np.save(folder / "states.npy", states.astype(np.float16))
    pd.DataFrame(owner, columns=["question", "position"]).to_parquet(
        folder / "positions.parquet", index=False
    )
    lens = pd.DataFrame(
        [(q, p, layer) for q, p in owner.tolist() for layer in layers],
        columns=["question", "position", "layer"],
    )
    for name in ("logprob", "rival_logprob", "entropy"):
        lens[name] = -rng.exponential(1, len(lens)).astype(np.float32)
    lens["top"], lens["rank"] = np.int32(0), rng.integers(0, 9, len(lens)).astype(np.int32)
    lens.to_parquet(folder / "lens.parquet", index=False)
    answered = owner[owner[:, 1] >= 0]
    candidates = pd.DataFrame(
        [(q, p, rank, 10 * rank + q % 3, -1.0 - rank) for q, p in answered.tolist() for rank in range(4)],
        columns=["question", "position", "rank", "token", "logprob"],
    )
    candidates.to_parquet(folder / "candidates.parquet", index=False)
    vocabulary = {f"Ġword{number}": number for number in range(40)}
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": vocabulary}, "decoder": {"type": "ByteLevel"}}), encoding="utf-8"
    )
    context_table(lines, strength).to_parquet(folder / "contexts.parquet", index=False)
    REASONS.write(
        folder / REASONS.name,
        [{"question": q, "kind": list(KINDS)[q % 4]} for q, line in enumerate(lines) if line["label"] == 1],
    )
    table.to_parquet(folder / "tracks.parquet", index=False)
    ladder(table).to_parquet(folder / "ladder.parquet", index=False)
    layer_table(lines, wrong, layers).to_parquet(folder / "layers.parquet", index=False)
    return folder


def placed(states: np.ndarray) -> PlacedStates:
    """states: [n, 4, n_layers, d_model]."""
    return PlacedStates(states.transpose(1, 2, 0, 3), np.arange(len(states)))


def inputs(folder: Path) -> dict[str, Path]:
    return {
        "track/answers": folder,
        "track/all": folder,
        "track/contexts": folder,
        "track/reasons": folder,
        "prepare/model": folder,
    }


def job(stage: str, settings: Config, folder: Path, inputs: dict[str, Path]) -> Job:
    """A job of a stage that reads from plain folders and writes to `folder`."""
    manifest = SimpleNamespace(input_digests={"prepare/model/weights": "m", "sae_train/layer_0/sae": "s"})
    entries = {
        name: SimpleNamespace(path=path, file=path.joinpath, manifest=manifest)
        for name, path in inputs.items()
    }
    settings = settings.model_copy(update={"paths": settings.paths.model_copy(update={"root": str(folder)})})
    return job_of(unit_of(stage, settings), settings, folder, entries)


def published(folder: Path) -> Path:
    return folder / "out"


def run_all(folder: Path, n: int = 160, strength: float = 0.7, seed: int = 0) -> Path:
    """detect on made-up tracks."""
    from ghosttrack.stages.detect.run import run

    settings = config()
    lines, wrong = answers(n, strength, seed)
    unit = write_track_unit(folder / "track", lines, tracks(lines, wrong, settings.layers, strength=strength))
    run(job("detect", settings, folder / "detect", inputs(unit)))
    return folder
