"""A finished run made up from random numbers, in the formats of docs/structure.md, published in a store with manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models

from ghosttrack.common.engine.contract import Read, Unit, task_key
from ghosttrack.common.engine.manifest import (
    BuildDefinition,
    Builder,
    Dependency,
    Manifest,
    Metadata,
    Predicate,
    RunDetails,
    Subject,
)
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.files import sha256_of
from ghosttrack.common.formats.account import ACCOUNT, STATE, STEP
from ghosttrack.common.formats.final_report import FinalReport
from ghosttrack.common.formats.origins import BIRTHS, SHARES
from ghosttrack.common.formats.validation import VALIDATION
from tests.stages.evaluate.scored import validated

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = ["Paris", "Lyon", "Rome", "Oslo", "Lima", "Cairo", "Kyiv", "Bern", "Riga", "Quito", "Accra", "Doha"]
RELATIONS = ("capital", "currency", "river", "border")
CANDIDATES = 8
REPORT_VERSION, QUALITY_VERSION = 2, 1
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>&amp;"\'`\u2028\x85</script>'
"""In the first question's text and answer, its features' tokens and contexts."""

Files = Mapping[str, Callable[[Path], object]]


def publish(
    store: Store,
    name: str,
    stage: str,
    unit: str,
    files: Files,
    parameters: Mapping[str, Any],
    reads: Sequence[str] = (),
) -> Entry:
    """Publish a unit whose files are written by functions of their path."""
    work = Unit(
        config_name=name, stage=stage, version=1, name=unit, layer=None,
        reads=[Read(stage=source.split("/")[0], unit=source.split("/")[1], files=["*"]) for source in reads],
        parameters=dict(parameters), folder=f"results/{name}/{stage}", writes=list(files),
    )  # fmt: skip
    entries = {source: store.current(name, *source.split("/")) for source in reads}
    digests = {
        f"{source}/{file}": subject.sha256
        for source, entry in entries.items()
        if entry
        for file, subject in entry.manifest.files.items()
    }
    key = task_key(work, digests)
    out = store.staging(work, key) / "out"
    for file, write in files.items():
        write(out / file)
    dependencies = [
        Dependency(name=file, uri="", digest={"sha256": digest}, annotations={"inTaskKey": True})
        for file, digest in digests.items()
    ]
    code = Dependency(
        name="code", uri="git+ghosttrack", digest={"gitCommit": COMMIT}, annotations={"dirty": False}
    )
    statement = Manifest(
        subject=[
            Subject(name=file, digest={"sha256": sha256_of(out / file)}, media_type="application/octet-stream",
                    annotations={"size": (out / file).stat().st_size})
            for file in sorted(files)
        ],
        predicate=Predicate(
            stage=stage, contract_version=1, unit=unit, task_key=key,
            build_definition=BuildDefinition(build_type="test", external_parameters=dict(parameters), resolved_dependencies=[*dependencies, code]),
            run_details=RunDetails(builder=Builder(id="local", version={"ghosttrack": "0.1.0"}),
                                   metadata=Metadata(invocation_id="test/1", started_on="2026-01-01T00:00:00Z", finished_on="2026-01-01T00:05:00Z")),
            environment={"python": "3.11.7", "torch": "2.13.0+cpu", "host": "here"},
            resource_usage={"elapsedSec": 123.4, "cpuSec": 200.5, "maxRSS": 1.5e9, "gpuPeakBytes": None},
        ),
    )  # fmt: skip
    return store.publish(work, key, statement)


def make_run(
    root: Path, name: str = "made-up", *, questions: int = 24, layers: int = 6, latents: int = 64, positions: int = 4,
    tracks: int = 12, seed: int = 0, without: Sequence[str] = (), prefix: str = "", blocks: int | None = None, vocabulary: Sequence[str] = (),
) -> Store:  # fmt: skip
    """Publish a whole run. positions: of a question, the subject's among them; tracks: of a cell; without: units to leave out;
    blocks: of the model, where more than are studied; vocabulary: words of contexts and latents, the commonest first."""
    rng, store = np.random.default_rng(seed), Store(str(root))
    records = generations(rng, questions, positions, prefix)
    cells = np.array([(q, p) for q in range(questions) for p in range(-1, positions - 1)])
    nodes = track_nodes(rng, cells, layers, latents, tracks)
    scored = scores(rng, records)
    report = final_report(rng, name, records, scored, layers)
    parameters = {
        "layers": list(range(layers)),
        "seed": 0,
        "model.base_model": "made-up",
        "model.d_model": 32,
        "model.n_layers": blocks or layers,
        "sae.d_hidden": latents,
        "sae_training.batch_size": 128,
    }
    units: list[tuple[str, str, Files, Sequence[str]]] = [
        ("prepare", "model", {"tokenizer.json": lambda path: tokenizer(path), "config.json": _json({"hidden_size": 32})}, ()),
        ("sae_train", "quality", {"sae_quality.json": _json(sae_quality(rng, layers))}, ("prepare/model",)),
        ("track", "answers", {"generations.jsonl": _lines(records), "lens.parquet": _parquet(lens(rng, cells, layers)),
                              "candidates.parquet": _parquet(candidates(rng, cells, records))}, ("prepare/model",)),
        ("track", "association", {"latents.parquet": _parquet(latent_table(rng, layers, latents, vocabulary)),
                                  "excerpts.parquet": _parquet(context_table(rng, nodes, 5, vocabulary))}, ("prepare/model",)),
        ("track", "all", {"tracks.parquet": _parquet(nodes), "layers.parquet": _parquet(layer_table(rng, cells, layers))},
         ("track/answers", "track/association")),
        ("track", "account", {"account.parquet": lambda path: ACCOUNT.write(path, account(rng, cells, layers)),
                              "origins.parquet": _parquet(origins(nodes))}, ("track/all",)),
        ("track", "contexts", {"contexts.parquet": _parquet(evidence(rng, records))}, ("track/answers",)),
        ("track", "causes", {"causes.parquet": _parquet(causes(rng, questions))}, ("track/account",)),
        ("track", "validation", {"validation.json": _json({**validated(), "schema_version": VALIDATION.version})}, ("track/causes",)),
        ("track", "reasons", {"reasons.jsonl": _lines([{"question": q, "id": r["id"], "kind": "other", "position": int(q == max(p for p, each in enumerate(records) if each["label"])),
                                                       "sentence": f"“{r['answer']}” won."}
                                                      for q, r in enumerate(records) if r["label"]])}, ("track/causes",)),
        ("detect", "all", {"hallucination_scores.json": _json({"schema_version": 3, "detector": "tracks", "questions": scored}),
                           "detection_metrics.json": _json({**report["data"], "schema_version": 3, "detector": "tracks", "associator": None, "methods": [],
                                                                   "permutation": None, "error_types": {}, "absent": []})}, ("track/all",)),
        ("detect", "tokens", {"token_metrics.json": _json(token_metrics(np.random.default_rng(2)))}, ("detect/all",)),
        ("evaluate", "all", {"final_report.json": _json({**report, "schema_version": REPORT_VERSION})}, ("detect/all",)),
    ]  # fmt: skip
    for stage, unit, files, reads in units:
        if f"{stage}/{unit}" not in without:
            publish(
                store,
                name,
                stage,
                unit,
                files,
                parameters,
                [source for source in reads if source not in without],
            )
    return store


def ask(store: Store, name: str = "made-up", questions: int = 3, layers: int = 6, positions: int = 4) -> None:
    """Publish the units of new questions, as `ghosttrack score` does."""
    rng = np.random.default_rng(1)
    records = [
        {**record, "label": None, "excluded": "no_gold_answer"}
        for record in generations(rng, questions, positions)
    ]
    cells = np.array([(q, p) for q in range(questions) for p in range(-1, positions - 1)])
    scored = [
        {**record, "unfamiliar": number == 1, "baseline": 0.25, "other_form": False, "token_risks": [0.1, 0.2],
         "predicted": None if number == 1 else 1}
        for number, record in enumerate(scores(rng, records))
    ]  # fmt: skip
    units: list[tuple[str, str, Files, Sequence[str]]] = [
        ("prepare", "asked_contexts", {"contexts.jsonl": _lines([])}, ()),
        ("track", "asked_answers", {"generations.jsonl": _lines(records), "lens.parquet": _parquet(lens(rng, cells, layers)),
                                    "candidates.parquet": _parquet(candidates(rng, cells, records))}, ()),
        ("track", "asked_contexts", {"contexts.parquet": _parquet(evidence(rng, records))}, ("track/asked_answers",)),
        ("track", "asked", {"tracks.parquet": _parquet(track_nodes(rng, cells, layers, 64, 12)),
                            "layers.parquet": _parquet(layer_table(rng, cells, layers))}, ("track/asked_answers",)),
        ("track", "asked_account", {"account.parquet": lambda path: ACCOUNT.write(path, account(rng, cells, layers))}, ("track/asked_answers",)),
        ("detect", "asked", {"scores.jsonl": _lines(scored)}, ("track/asked_answers", "track/asked")),
    ]  # fmt: skip
    for stage, unit, files, reads in units:
        publish(store, name, stage, unit, files, {}, reads)


def _json(content: Any) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _lines(records: Sequence[Mapping[str, Any]]) -> Callable[[Path], object]:
    return lambda path: path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
    )


def _parquet(columns: Mapping[str, Any]) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table(dict(columns)), path, compression="zstd")


def token_metrics(rng: np.random.Generator) -> dict[str, Any]:
    names = ("token_auroc", "token_auprc", "recall_at_0.1_false_alarms", "span_f1", "answer_auroc")

    def figures(low: float) -> dict[str, list[float]]:
        return {name: sorted(rng.uniform(low, low + 0.3, 3).tolist()) for name in names}

    return {
        "schema_version": 1, "tokens": 1234, "wrong_tokens": 400, "answers": 60, "wrong_answers": 30,
        "methods": {name: figures(0.5) for name in ("detector", "logprob", "entropy", "probe_2")},
        "detector_less": {name: figures(-0.1) for name in ("logprob", "entropy", "probe_2")},
    }  # fmt: skip


def tokenizer(path: Path) -> None:
    words = ["[?]", *(f" {word}" for word in WORDS), MARKUP, *(f" w{number}" for number in range(500))]
    Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[?]")).save(
        str(path)
    )


def generations(
    rng: np.random.Generator, count: int, positions: int, prefix: str = ""
) -> list[dict[str, Any]]:
    records = []
    for number in range(count):
        relation, wrong = RELATIONS[number % len(RELATIONS)], int(rng.random() < 0.5)
        gold, said = WORDS[number % len(WORDS)], WORDS[(number + wrong) % len(WORDS)]
        length = positions - 2
        question = f"The {relation} of land {number} is" if number else f"The capital of {MARKUP} is"
        records.append(
            {
                "id": f"{prefix}{relation}/land {number}", "relation": relation, "subject": f"land {number}", "group": f"land {number}",
                "prompt": f"The {relation} of Spain is Madrid\n{question}", "query": question, "question": question, "answer": said if number else MARKUP, "gold": gold,
                "aliases": [gold], "label": None if number % 17 == 16 else wrong, "strict_label": wrong,
                "excluded": "refusal" if number % 17 == 16 else None, "subject_found": True,
                "token_ids": [1 + (number + wrong) % len(WORDS)] * length, "tokens": [f" {said}" if number else MARKUP] * length,
                "logprobs": rng.uniform(-3, 0, length).round(6).tolist(), "entropies": rng.uniform(0, 4, length).round(6).tolist(),
            }
        )  # fmt: skip
    return records


def track_nodes(
    rng: np.random.Generator, cells: np.ndarray, layers: int, latents: int, tracks: int
) -> dict[str, np.ndarray]:
    """Rows of tracks.parquet."""
    n = len(cells) * tracks
    cell, track = np.repeat(np.arange(len(cells)), tracks), np.tile(np.arange(tracks), len(cells))
    birth = np.minimum(rng.geometric(0.25, n) - 1, layers - 1)
    length = np.minimum(rng.geometric(0.15, n), layers - birth)
    row = np.repeat(np.arange(n), length)
    layer = birth[row] + np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    latent = rng.integers(0, latents, n)[row]
    first = layer == birth[row]
    activation = (rng.gamma(2, 1.5, n)[row] * rng.uniform(0.7, 1.4, len(row))).astype(np.float32)
    order = np.lexsort((-activation, layer, cell[row]))
    link = np.where(first, np.nan, rng.uniform(0.5, 1, len(row))).astype(np.float32)
    columns = {
        "question": cells[cell[row], 0].astype(np.int32), "position": cells[cell[row], 1].astype(np.int16), "layer": layer.astype(np.int16),
        "latent": latent.astype(np.int32), "activation": activation, "track": track[row].astype(np.int16), "link": link,
        "posterior": rng.beta(5, 1, len(row)).astype(np.float32), "existence": rng.beta(5, 1, len(row)).astype(np.float32),
        "effect": (rng.normal(0, 0.4, n)[row] * rng.uniform(0.5, 1.2, len(row))).astype(np.float32),
    }  # fmt: skip
    return {name: values[order] for name, values in columns.items()}


def origins(nodes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of origins.parquet: all that is carried, and tracks begin in each way in turn."""
    n, births = len(nodes["link"]), np.arange(len(nodes["link"])) % len(BIRTHS)
    shares = {name: np.full(n, name == "carried", dtype=np.float16) for name in SHARES}
    return {**shares, "birth": np.where(np.isnan(nodes["link"]), births, -1).astype(np.int8)}


def _cells_and_layers(cells: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    return {
        "question": np.repeat(cells[:, 0], layers).astype(np.int32),
        "position": np.repeat(cells[:, 1], layers).astype(np.int16),
        "layer": np.tile(np.arange(layers), len(cells)).astype(np.int16),
    }


def lens(rng: np.random.Generator, cells: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    n = len(cells) * layers
    return {
        **_cells_and_layers(cells, layers),
        "logprob": np.sort(rng.uniform(-12, 0, n).reshape(-1, layers), axis=1).ravel().astype(np.float32),
        "rival_logprob": rng.uniform(-12, -1, n).astype(np.float32), "entropy": rng.uniform(0, 8, n).astype(np.float32),
        "top": rng.integers(1, 500, n).astype(np.int32), "rank": rng.integers(0, 300, n).astype(np.int32),
    }  # fmt: skip


def candidates(
    rng: np.random.Generator, cells: np.ndarray, records: Sequence[Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    count, asked = CANDIDATES, cells[cells[:, 1] >= 0]
    token = np.array([[records[q]["token_ids"][0], *rivals_of(rng, records[q], count - 1)] for q, _ in asked])
    return {
        "question": np.repeat(asked[:, 0], count).astype(np.int32), "position": np.repeat(asked[:, 1], count).astype(np.int16),
        "rank": np.tile(np.arange(count), len(asked)).astype(np.int16), "token": token.ravel().astype(np.int32),
        "logprob": -np.sort(rng.uniform(0.1, 9, (len(asked), count)), axis=1).ravel().astype(np.float32),
    }  # fmt: skip


def rivals_of(rng: np.random.Generator, record: Mapping[str, Any], count: int) -> list[int]:
    """Other tokens, of most wrong answers the right one third among them."""
    found = rng.permutation(np.arange(20, 500))[:count].tolist()
    if record["label"] == 1 and record["gold"] in WORDS and rng.random() < 0.7:
        found[2] = 1 + WORDS.index(record["gold"])
    return found


def account(rng: np.random.Generator, cells: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    """Parts that add up; at the last layer the emitted token leads."""
    where = _cells_and_layers(cells, layers)
    n = len(where["layer"])
    parts = {name: rng.normal(0, 1.5, (n, CANDIDATES)) for name in (*STATE, *STEP)}
    parts["sae_error"][:, 0] += np.where(where["layer"] == layers - 1, 12, 0)
    raw = np.sum([parts[name] for name in STATE], axis=0)
    parts["carried"] = raw - np.sum([parts[name] for name in STEP[1:]], axis=0)
    lists = {**parts, "constant": np.zeros_like(raw), "raw": raw, "logit": raw}
    return {**where, "leader": raw.argmax(axis=1).astype(np.int16), "rest": np.zeros(n, dtype=np.float32),
            **{name: values.astype(np.float32) for name, values in lists.items()}}  # fmt: skip


def evidence(
    rng: np.random.Generator, records: Sequence[Mapping[str, Any]], contexts: int = 3
) -> dict[str, Any]:
    """Three candidate answers a question, the right one the second."""
    n = len(records) * contexts
    chances = rng.dirichlet([1, 1, 1, 1], n)[:, :3].ravel()
    texts = [text for r in records for _ in range(contexts) for text in (r["answer"], r["gold"], "Atlantis")]
    return {
        "question": np.repeat(np.arange(len(records)), contexts * 3).astype(np.int32), "context": np.tile(np.repeat(np.arange(contexts), 3), len(records)).astype(np.int16),
        "hypothesis": np.tile(np.arange(3), n).astype(np.int16), "text": texts, "evidence": np.log(chances).astype(np.float32), "total": np.log(chances).astype(np.float32),
        "n_tokens": np.full(3 * n, 2, dtype=np.int16), "shows": np.zeros(3 * n, dtype=bool), "greedy": np.tile([True, False, False], n),
    }  # fmt: skip


def causes(rng: np.random.Generator, questions: int) -> dict[str, Any]:
    """Two tracks and a set of every third question."""
    asked = np.repeat(np.arange(1, questions, 3), 3)
    n = len(asked)
    kind = ["track", "track", "set"] * (n // 3)
    return {
        "question": asked.astype(np.int32), "kind": kind, "size": np.tile([1, 1, 2], n // 3).astype(np.int16), "position": np.zeros(n, dtype=np.int16),
        "track": np.tile([0, 3, 0], n // 3).astype(np.int16), **{name: rng.normal(1, 1, n).astype(np.float32) for name in ("margin", "predicted", "drop", "control_drop")},
        "token": rng.integers(1, 13, n).astype(np.int32), "control_token": rng.integers(1, 13, n).astype(np.int32), "changed": np.tile([False, False, True], n // 3),
        "control_changed": np.zeros(n, dtype=bool), "right": np.zeros(n, dtype=bool), "was_right": np.zeros(n, dtype=bool),
    }  # fmt: skip


def layer_table(rng: np.random.Generator, cells: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    n = len(cells) * layers
    return {
        **_cells_and_layers(cells, layers),
        "n_active": rng.integers(5, 50, n).astype(np.int16), "births": rng.integers(0, 9, n).astype(np.int16),
        "deaths": rng.integers(0, 9, n).astype(np.int16), "association_entropy": rng.uniform(0, 2, n).astype(np.float32),
        "discarded_mass": np.full(n, np.nan, dtype=np.float32), "error": rng.uniform(0, 0.4, n).astype(np.float32),
        "margin": rng.normal(0, 0.6, n).cumsum().astype(np.float32) % 3 - 1.5, "competition_entropy": rng.uniform(0, 2, n).astype(np.float32),
        "leader": rng.choice([0, 0, 0, 1, 2], n).astype(np.int16),
    }  # fmt: skip


def latent_table(
    rng: np.random.Generator, layers: int, latents: int, vocabulary: Sequence[str] = ()
) -> dict[str, Any]:
    n = layers * latents
    words = [MARKUP if row % 50 == 0 else f" w{row % 500}" for row in range(n)]
    tokens = rng.choice(vocabulary, (n, 16)) if vocabulary else np.array([])
    return {
        "layer": np.repeat(np.arange(layers), latents).astype(np.int16), "latent": np.tile(np.arange(latents), layers).astype(np.int32),
        "firing_rate": rng.beta(1, 60, n).astype(np.float32), "mean_activation": rng.gamma(2, 1, n).astype(np.float32),
        "promoted": tokens[:, :8].tolist() if vocabulary else [[word, " Paris", f" w{row % 13}", " of", " the"] for row, word in enumerate(words)],
        "suppressed": tokens[:, 8:].tolist() if vocabulary else [[" Rome", word, " no", " it", " w3"] for word in words],
        "promoted_by": rng.uniform(0, 2, (n, 5)).tolist(), "suppressed_by": rng.uniform(-2, 0, (n, 5)).tolist(),
        "label": [None if row % 3 else f"“{word}”" for row, word in enumerate(words)], "label_score": [None if row % 3 else 0.5 + row % 50 / 100 for row in range(n)],
        "max_activation": rng.gamma(3, 2, n).astype(np.float32), "histogram": rng.integers(0, 40, (n, 16)).tolist(),
    }  # fmt: skip


def zipf(count: int) -> np.ndarray:
    """Chances of words, the commonest first, about as in a text."""
    chances = 1 / (np.arange(count) + 2.7)
    return chances / chances.sum()


def context_table(
    rng: np.random.Generator, nodes: Mapping[str, np.ndarray], count: int, vocabulary: Sequence[str] = ()
) -> dict[str, Any]:
    used = np.unique(np.stack([nodes["layer"], nodes["latent"]], axis=1), axis=0)
    n = len(used) * count
    words = (
        rng.choice(vocabulary, (n, 13), p=zipf(len(vocabulary)))
        if vocabulary
        else rng.choice(["and", "land", "the", "rivers", "of", "a", "republic", MARKUP], (n, 24))
    )
    middle = 8 if vocabulary else 14
    activation = -np.sort(-rng.gamma(3, 2, (len(used), count)), axis=1).ravel().astype(np.float32)
    lengths = [[len(row[0]), *(len(word) + 1 for word in row[1:])] for row in words]
    heat = np.zeros(words.shape, dtype=np.float16)
    heat[:, middle], heat[:, 0] = activation, activation / 3
    return {
        "layer": np.repeat(used[:, 0], count).astype(np.int16), "latent": np.repeat(used[:, 1], count).astype(np.int32),
        "rank": np.tile(np.arange(count), len(used)).astype(np.int16), "quantile": np.tile(np.linspace(1, 0.1, count), len(used)).astype(np.float32),
        "activation": activation, "before": [" ".join(row[:middle]) for row in words], "token": [f" {row[middle]}" for row in words],
        "after": [" " + " ".join(row[middle + 1 :]) for row in words], "lengths": pa.array(lengths, pa.list_(pa.int16())), "heat": pa.array(list(heat), pa.list_(pa.float16())),
    }  # fmt: skip


def scores(rng: np.random.Generator, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for record in records:
        score = float(np.clip(0.5 + 0.25 * ((record["label"] or 0) - 0.5) + rng.normal(0, 0.15), 0, 1))
        found.append(
            {
                **{key: record[key] for key in ("id", "relation", "group", "answer", "gold", "label", "strict_label", "excluded")},
                "question": record["prompt"].rsplit("\n", 1)[-1], "error_type": None,
                "fold": int(rng.integers(5)), "score": score, "threshold": 0.48, "predicted": int(score >= 0.48),
                "interval": [max(score - 0.1, 0.0), min(score + 0.1, 1.0)],
                "contributions": {"tracks.last.churn.births.late": 0.4, "logits.min_logprob": -0.62, "lens.first.rank.4": 0.05},
                "rest": 0.11, "intercept": -0.2, "additive_log_odds": -0.26, "nearest_right": records[1]["id"] if len(records) > 1 else None,
            }
        )  # fmt: skip
    return found


def sae_quality(rng: np.random.Generator, layers: int) -> dict[str, Any]:
    def layer(number: int) -> dict[str, Any]:
        return {
            "layer": number, "target_l0": 64, "l0": float(rng.uniform(60, 68)), "fvu": float(rng.uniform(0.05, 0.2)), "mse": float(rng.uniform(0.05, 0.2)),
            "dead_fraction": float(rng.uniform(0, 0.02)), "l0_quantiles": {"0.05": 9.0, "0.5": 45.0, "0.95": 177.0},
            "l0_histogram": {"edges": list(range(0, 205, 5)), "counts": rng.integers(0, 300, 40).tolist()},
            "firing_rate_histogram": {"log10_edges": np.linspace(-5, 0, 21).tolist(), "counts": rng.integers(0, 300, 20).tolist(), "never": 1},
            "splice": {"ce_recovered": {"zero": 0.99, "mean": float(rng.uniform(0.8, 1))}, "kl_recovered": {"zero": 0.98, "mean": float(rng.uniform(0.8, 1))}},
        }  # fmt: skip

    pair = {"cosine": 0.9, "cosine_quantiles": {"0.5": 0.95}, "nearest_cosine": 0.97, "self_match": 0.93}
    return {
        "schema_version": QUALITY_VERSION, "text": {"tokens": 256, "predictions": 246, "segments": 5, "ce": 2.7}, "layers": [layer(number) for number in range(layers)],
        "all_layers": {"ce_recovered": {"zero": 0.5, "mean": 0.4}, "kl_recovered": {"zero": 0.5, "mean": 0.4}, "error_by_depth": [{"layer": 0, "fvu": 0.2}]},
        "identity": {"adjacent": [{"layer": number, "next": number + 1, **pair} for number in range(layers - 1)], "to_first": [], "random": {}},
    }  # fmt: skip


def final_report(
    rng: np.random.Generator,
    name: str,
    records: Sequence[Mapping[str, Any]],
    scored: Sequence[Mapping[str, Any]],
    layers: int,
) -> dict[str, Any]:
    """A report that holds to the schema of stages/evaluate; its numbers are random."""
    labels = [record["label"] for record in records if record["label"] is not None]
    figures = ["auroc", "auroc_within_relation", "auprc_wrong", "auprc_right", "precision", "recall", "f1", "accuracy", "brier", "brier_skill", "ece_before", "ece", "ece_by_chance", "aurc", "e_aurc", "prr", "prr_half", "coverage_80", "coverage_90"]  # fmt: skip

    def figure(centre: float = 0.7) -> dict[str, float]:
        value = float(np.clip(rng.normal(centre, 0.05), 0, 1))
        return {
            "value": value,
            "low": value - float(rng.uniform(0.01, 0.06)),
            "high": value + float(rng.uniform(0.01, 0.06)),
        }

    def curve(method: str, rising: bool = True) -> dict[str, Any]:
        x = np.linspace(0, 1, 21)
        y = x**0.5 if rising else 0.9 - 0.4 * x
        return {
            "method": method,
            "x": x.tolist(),
            "y": y.tolist(),
            "low": (y * 0.9).tolist(),
            "high": np.minimum(y * 1.1, 1).tolist(),
        }

    kinds = {"tracks": "detector", "tracks+logits": "detector", "logprob_min": "baseline", "answer_length": "baseline",
             "none": "rung", "random": "rung", "marginals": "rung", "early_2": "early"}  # fmt: skip
    cards = [{"name": method, "title": method.replace("_", " "), "kind": kind, "description": f"what {method} is", "signals": ["tracks"], "rung": method if kind == "rung" else None,
              "layer": 2 if kind == "early" else None, "before_answer": False} for method, kind in kinds.items()]  # fmt: skip
    split = {
        "split": "grouped", "title": "Questions on new subjects", "description": "Five folds.", "n": len(labels), "n_wrong": sum(labels), "n_right": len(labels) - sum(labels),
        "prevalence": sum(labels) / len(labels), "n_groups": len(labels), "n_relations": 4, "repeats": 2, "f1_all_called_wrong": 0.66,
        "methods": [{"name": method, "kind": kind, "figures": {key: figure() for key in figures}} for method, kind in kinds.items()],
        "best_baseline": {"auroc": "logprob_min", "auroc_within_relation": "logprob_min"},
        "comparisons": [{"about": "detector", "method": "tracks", "against": "logprob_min", "metric": "auroc", "difference": {"value": -0.04, "low": -0.08, "high": 0.01}, "verdict": "no clear difference"}],
        "confusion": {"wrong_called_wrong": 8.5, "wrong_called_right": 2.5, "right_called_wrong": 3.0, "right_called_right": 9.0},
        "curves": {"roc": [curve("tracks"), curve("logprob_min")], "precision_recall": [curve("tracks", False)], "reliability": [curve("tracks")], "risk_coverage": [curve("tracks")]},
    }  # fmt: skip
    report = {
        "schema_version": 2, "name": name, "model": "made-up/model", "layers": list(range(layers)), "seed": 0, "confidence": 0.95, "resamples": 200,
        "headline": {"contexts": "Made-up numbers: hypotheses change nothing.", "detector": "Made-up numbers: the detector shows no clear difference from the best baseline.", "tracking": "Tracking is not shown to help.", "helps": None},
        "data": {"n_questions": len(records), "n_labelled": len(labels), "n_wrong": sum(labels), "n_right": len(labels) - sum(labels), "prevalence": sum(labels) / len(labels),
                 "excluded": {"refusal": len(records) - len(labels)}, "unexplained": 0, "n_groups": len(labels), "largest_group": 1, "n_relations": 4},
        "detector": "tracks", "main_methods": ["tracks", "logprob_min"], "methods": cards, "splits": [split, {**split, "split": "relations", "title": "Questions on new relations"}],
        "absent": ["transfer: no second data set"],
        "relations": [{"relation": relation, "n": 6, "n_wrong": 3, "auroc": {"tracks": figure(), "logprob_min": figure()}} for relation in RELATIONS],
        "early_warning": [{"method": "early_2", "layer": 2, "depth": 0.5, "before_answer": True, "auroc": figure(0.6), "auroc_within_relation": figure(0.6)},
                          {"method": "tracks", "layer": None, "depth": 1.0, "before_answer": False, "auroc": figure(), "auroc_within_relation": figure()}],
        "permutation": {"n": 20, "observed": 0.72, "mean": 0.5, "low": 0.4, "high": 0.6, "p_value": 1 / 21, "auroc": [0.5] * 20, "met": True},
        "error_types": [{"name": "unknown", "description": "The subject is not known.", "n": 4, "share": 0.4, "auroc": figure(), "baseline_auroc": figure(), "found": figure()}],
        "strict": {"n": len(labels), "n_wrong": sum(labels), "disagree": 1, "kappa": 0.95, "methods": split["methods"][:4]},
        "sae": [{"layer": layer, "l0": 64.0, "fvu": 0.1, "mse": 0.1, "dead_fraction": 0.0, "ce_recovered": 0.9, "kl_recovered": 0.9, "next_self_match": 0.9} for layer in range(layers)],
        "sae_all_layers": {"ce_recovered": 0.4, "kl_recovered": 0.4, "fvu_at_the_end": 0.3},
        "expectations": [{"metric": "AUROC", "source": "reference page", "wanted": "> 0.90", "found": figure(), "met": False, "note": "made up"}],
    }  # fmt: skip
    return FinalReport.model_validate(report).model_dump(mode="json")
