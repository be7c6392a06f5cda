"""What `detect` publishes, made up: questions, methods of every kind and their scores on every split.

Each method's score is the hidden wrongness plus noise of its own strength, so that their order is known: the main
detector beats the best baseline, real association beats none and random, and deeper layers know more.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.questions import QUESTIONS
from ghosttrack.common.formats.token_scores import TOKEN_METRICS
from ghosttrack.common.formats.validation import VALIDATION
from tests.jobs import job_of, unit_of

ROOT = Path(__file__).resolve().parents[3]

STRENGTH = {
    "full": 2.2, "tracks": 1.3, "white_box": 1.7, "logprob_mean": 1.2, "relation_prior": 0.0, "ladder_none": 0.9,
    "ladder_random": 0.95, "ladder_marginals": 1.3, "early_prompt_0": 0.4, "early_prompt_1": 0.8, "early_0": 0.6, "early_1": 1.2,
}  # fmt: skip
METHODS: list[dict[str, Any]] = [
    {"name": "full", "kind": "detector", "description": "everything", "signals": ["tracks", "logits", "lens"],
     "title": "tracks + white box"},
    {"name": "tracks", "kind": "detector", "description": "tracks alone", "signals": ["tracks"]},
    {"name": "white_box", "kind": "detector", "description": "without tracks", "signals": ["lens", "logits"],
     "title": "white box"},
    {"name": "logprob_mean", "kind": "baseline", "description": "minus mean log-probability", "signals": ["logits"]},
    {"name": "relation_prior", "kind": "baseline", "description": "share wrong of the relation", "signals": ["relation"]},
    *({"name": f"ladder_{rung}", "kind": "rung", "rung": rung, "description": rung, "signals": ["tracks"],
       "title": f"{rung} association"} for rung in ("none", "random", "marginals")),
    *({"name": f"early_{'prompt_' if before else ''}{layer}", "kind": "early", "layer": layer, "before_answer": before,
       "description": "first layers", "signals": ["tracks"]} for before in (True, False) for layer in (0, 1)),
]  # fmt: skip
METHODS = [
    {"title": each["name"].replace("_", " "), "rung": None, "layer": None, "before_answer": False} | each
    for each in METHODS
]
ERROR_TYPES = {"unknown_subject": "weak subject tracks", "prior_default": "the relation's commonest answer"}


def questions(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Records of hallucination_scores.json; two questions a group, five relations of different difficulty."""
    rng = np.random.default_rng(seed)
    relation = rng.integers(0, 5, n)
    wrong = rng.random(n) < np.array([0.2, 0.4, 0.6, 0.7, 0.9])[relation]
    records = []
    for i in range(n):
        excluded = "empty" if i % 50 == 49 else None
        records.append(
            {
                "id": f"q{i}", "relation": f"relation {relation[i]}", "group": f"g{i // 2}",
                "question": f"Subject {i // 2} has the attribute", "answer": f"answer {i}", "gold": f"gold {i}",
                "label": None if excluded else int(wrong[i]), "excluded": excluded,
                "strict_label": None if excluded else int(wrong[i] or i % 10 == 0),
                "matched": {"exact": int(wrong[i] or i % 10 == 0), "f1": int(wrong[i])} | ({"number": 1} if i % 7 == 0 else {}),
                "error_type": list(ERROR_TYPES)[i % 2] if wrong[i] and not excluded else None,
                "error_type_by_tracks": ["unknown_subject", "other"][i % 3 > 0] if wrong[i] and not excluded else None,
                "score": None if excluded else float(wrong[i]),
            }
        )  # fmt: skip
    return records


def scores(
    records: list[dict[str, Any]],
    splits: dict[str, int],
    methods: list[dict[str, Any]] = METHODS,
    seed: int = 1,
) -> pd.DataFrame:
    """scores.parquet; splits: name → repeats. `test` has a fifth of the questions, the others all."""
    rng = np.random.default_rng(seed)
    labelled = np.array([i for i, record in enumerate(records) if record["label"] is not None])
    label = np.array([records[i]["label"] for i in labelled])
    share = {name: np.mean([r["label"] for r in records if r["relation"] == name and r["label"] is not None])
             for name in {record["relation"] for record in records}}  # fmt: skip
    tables = []
    own = {method["name"]: rng.normal(size=len(labelled)) for method in methods}
    common = rng.normal(size=len(labelled))
    for split, repeats in splits.items():
        kept = labelled % 10 < 2 if split == "test" else np.full(len(labelled), True)
        for method in methods:
            strength = STRENGTH[method["name"]] * (0.8 if split in ("relations", "transfer") else 1.0)
            for repeat in range(repeats):
                noise = 0.7 * common + 0.6 * own[method["name"]] + 0.3 * rng.normal(size=len(labelled))
                logit = strength * (2 * label - 1) + 1.5 * noise
                if method["signals"] == ["relation"]:
                    p = np.array([share[records[i]["relation"]] for i in labelled]) + 1e-3 * rng.normal(
                        size=len(labelled)
                    )
                    logit = np.log(p.clip(0.01, 0.99) / (1 - p.clip(0.01, 0.99)))
                probability = 1 / (1 + np.exp(-logit))
                tables.append(
                    pd.DataFrame(
                        {
                            "question": labelled[kept].astype(np.int32), "split": split, "repeat": np.int8(repeat),
                            "method": method["name"], "fold": (labelled[kept] // 2 % 5).astype(np.int16),
                            "score": logit[kept], "probability": probability[kept],
                            "raw_probability": 1 / (1 + np.exp(-2 * logit[kept])),
                            "predicted": (probability[kept] > 0.5).astype(np.int8),
                        }
                    )
                )  # fmt: skip
    return pd.concat(tables, ignore_index=True).sample(frac=1, random_state=seed)


def write(
    folder: Path, n: int = 300, splits: dict[str, int] | None = None, methods: list[dict[str, Any]] = METHODS
) -> Path:
    """The unit detect/all."""
    folder.mkdir(parents=True, exist_ok=True)
    records = questions(n)
    rng = np.random.default_rng(3)
    kept = [record for record in records if record["label"] is not None]
    wrong, groups = sum(record["label"] for record in kept), Counter(record["group"] for record in kept)
    metrics = {
        "n_questions": n, "n_labelled": len(kept), "n_wrong": wrong, "n_right": len(kept) - wrong, "prevalence": wrong / len(kept),
        "n_groups": len(groups), "largest_group": max(groups.values()), "n_relations": len({record["relation"] for record in kept}),
        "excluded": {"empty": n - len(kept)},
        "schema_version": 3, "detector": "full", "associator": "marginals", "methods": methods, "error_types": ERROR_TYPES,
        "permutation": {"n": 50, "observed": 0.93, "auroc": (0.5 + 0.02 * rng.normal(size=50)).tolist()},
        "absent": ["Semantic entropy: detection.samples is 0."],
    }  # fmt: skip
    table = scores(records, splits or {"grouped": 2, "test": 1, "relations": 1}, methods)
    (folder / "hallucination_scores.json").write_text(
        json.dumps({"schema_version": 3, "detector": "full", "questions": records})
    )
    (folder / "detection_metrics.json").write_text(json.dumps(metrics))
    table.to_parquet(folder / "scores.parquet", index=False)
    return folder


def config() -> Config:
    return Config.model_validate(
        {
            "name": "made-up",
            "model": {"base_model": "none", "d_model": 8, "n_layers": 6},
            "sae": {"d_hidden": 64, "target_l0": 8},
            "evaluation": {"bootstrap": 200},
        }
    )


def job(stage: str, folder: Path, inputs: dict[str, Path]) -> Job:
    """A job of a stage that reads from plain folders and writes to `folder`."""
    settings = config()
    entries = {
        name: SimpleNamespace(path=path, file=path.joinpath, key="0" * 64, manifest_sha256="1" * 64)
        for name, path in inputs.items()
    }
    return job_of(unit_of(stage, settings), settings, folder, entries)


def write_sae_quality(folder: Path, layers: list[int], l0: float = 64.0, mse: float = 0.005) -> Path:
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
    return folder


def write_questions(folder: Path) -> Path:
    """questions.jsonl of two questions of a relation, which have two of their three worked examples in common."""
    spain, chile, peru = (
        ["Spain's capital is", "Madrid"],
        ["Chile's capital is", "Santiago"],
        ["Peru's capital is", "Lima"],
    )
    folder.mkdir(parents=True, exist_ok=True)
    shots = ([spain, chile], [chile, peru])
    QUESTIONS.write(folder / QUESTIONS.name, [{"relation": "capital", "shots": each} for each in shots])
    return folder


def evaluate(folder: Path, detect: Path, l0: float = 64.0, mse: float = 0.005) -> Path:
    """The files that evaluate makes of a folder that `write` made."""
    from ghosttrack.stages.evaluate.run import run

    units = {
        "detect/all": detect,
        "sae_train/quality": write_sae_quality(folder / "sae", config().layers, l0, mse),
        "prepare/questions": write_questions(folder / "questions"),
    }
    run(job("evaluate", folder / "evaluate", units))
    return folder / "evaluate" / "out"


def write_tokens(folder: Path) -> Path:
    """token_metrics.json of long answers."""
    of = {"detector": [0.8, 0.7, 0.9], "logprob": [0.6, 0.5, 0.7]}
    names = ("token_auroc", "token_auprc", "recall_at_0.1_false_alarms", "span_f1")
    metrics = {
        "tokens": 1200, "wrong_tokens": 400, "answers": 60, "wrong_answers": 60,
        "methods": {name: dict.fromkeys(names, value) | {"answer_auroc": [None, None, None]} for name, value in of.items()},
        "detector_less": {"logprob": {"token_auroc": [0.2, 0.1, 0.3], "answer_auroc": [None, None, None]}},
    }  # fmt: skip
    path = folder / "tokens" / TOKEN_METRICS.name
    path.parent.mkdir()
    TOKEN_METRICS.write(path, metrics)
    return path.parent


def validated(size: int = 1) -> dict[str, Any]:
    """What a report and a page read of validation.json: one check passed, one failed, one that could not be told."""
    sets = {
        "what": f"sets of {size}",
        "n": 9,
        "slope": 0.8,
        "slope_low": 0.7,
        "slope_high": 0.9,
        "rank": 0.7,
        "rank_low": 0.6,
        "rank_high": 0.8,
    }
    return {
        "passed": 1, "failed": 1, "not_told": 1,
        "verdicts": [{"question": f"Question {passed}?", "passed": passed, "words": f"In words {passed}."} for passed in (True, False, None)],
        "drops": [{**sets, "what": "one track"}, sets],
        "changed": [{"size": size, "wrong_answers": 24, "changed": [0.75, 0.55, 0.88], "control": [0.08, 0.02, 0.26], "became_right": None}],
    }  # fmt: skip


def write_validation(folder: Path) -> Path:
    path = folder / "validation" / VALIDATION.name
    path.parent.mkdir()
    VALIDATION.write(path, validated())
    return path.parent


def run_all(folder: Path) -> Path:
    """Made-up scores, evaluate and report."""
    report(folder, write(folder / "detect"))
    return folder


def report(folder: Path, detect: Path) -> str:
    """The page that evaluate and report make of what detect published."""
    from ghosttrack.stages.report.run import run

    units = {
        "detect/all": detect,
        "detect/tokens": write_tokens(folder),
        "track/validation": write_validation(folder),
        "evaluate/all": evaluate(folder, detect),
    }
    run(job("report", folder / "report", units))
    return (folder / "report" / "out" / "report.md").read_text(encoding="utf-8")
