"""A run's latents as an export that Neuronpedia imports.

https://docs.neuronpedia.org/api-and-data/exports says which files there are; what a record holds is a row of the tables of
the same names in its own importer (github.com/hijohnnylin/neuronpedia, `apps/webapp/prisma/schema.prisma`). What it has a
default for is left to it. SAEs themselves are not in it: `ghosttrack sae export`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.fingerprint import name_of
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import MissingInputError
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.stages.report.results import Results

BATCH = 1024
"""Latents a file, as its own exports have."""
TOP = 10
"""Of a latent's contexts, the most active; the others are from all strengths."""
STRONGEST = -1
"""Its sign, in place of an interval of activations, for a context that is among the most active."""

Record = dict[str, Any]


def export(results: Results, config: Config, folder: Path, creator: str) -> Path:
    """Write `<model>/<layer>-<set>/…` for every layer; the folder of the model. creator: the id there of the user whose they
    are. Raises MissingInputError where the run has no latents yet."""
    if not (results.has_table(LATENTS) and results.has_table(LATENT_CONTEXTS)):
        raise MissingInputError(
            f"{results.name} has no latents yet; `ghosttrack run {results.name}` makes them"
        )
    model, release = (
        slug(Path(name_of(config.model.base_model)).name.removesuffix(".gguf")),
        slug(results.name),
    )
    owned = {"creatorId": creator, "visibility": "PUBLIC"}
    words = {"creatorName": "GhostTrack", "description": f"JumpReLU SAEs of {results.name}"}
    sources = f"res-{release}"
    shared: dict[str, Record] = {
        "model": {"id": model, "displayName": model, "displayNameShort": model, "owner": "", "layers": config.model.n_layers,
                  "neuronsPerLayer": 0, "dimension": config.model.d_model, **owned},
        "release": {"name": release, "urls": [], **words, **owned},
        "sourceset": {"modelId": model, "name": sources, "releaseName": release, "urls": [], **words, **owned},
    }  # fmt: skip
    for layer in config.layers:
        place = {"modelId": model, "layer": f"{layer}-{sources}"}
        source = {
            "id": place["layer"],
            "modelId": model,
            "setName": sources,
            "dataset": name_of(config.data.corpus),
        }
        with storage_errors(folder):
            write_layer(results, layer, folder / model / place["layer"], place, creator)
            for name, record in {**shared, "source": {**source, **owned}}.items():
                (folder / model / place["layer"] / f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    return folder / model


def slug(name: str) -> str:
    """Letters, digits, dashes and underscores: what an id there may have."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "model"


def write_layer(results: Results, layer: int, folder: Path, place: Mapping[str, str], creator: str) -> None:
    """features, activations and explanations of one layer, a file of each for so many latents."""
    where = {"layer": range(layer, layer + 1)}
    latents = LATENTS.table(results.path(LATENTS), where=where).to_pylist()
    contexts: dict[int, list[Record]] = {each["latent"]: [] for each in latents}
    for row in LATENT_CONTEXTS.table(results.path(LATENT_CONTEXTS), where=where).to_pylist():
        contexts[row["latent"]].append(row)
    for number, first in enumerate(range(0, len(latents), BATCH)):
        some = latents[first : first + BATCH]
        files = {
            "features": [feature(each, place, creator) for each in some],
            "activations": [row for each in some for row in activations(each, contexts[each["latent"]], place, creator)],
            "explanations": [explanation(each, place, creator) for each in some if each["label"] is not None],
        }  # fmt: skip
        for name, records in files.items():
            if records:
                (folder / name).mkdir(parents=True, exist_ok=True)
                lines = "\n".join(json.dumps(each) for each in records)
                path = folder / name / f"batch-{number}.jsonl.gz"
                path.write_bytes(gzip.compress(f"{lines}\n".encode(), compresslevel=5, mtime=0))


def feature(latent: Mapping[str, Any], place: Mapping[str, str], creator: str) -> Record:
    width = latent["max_activation"] / len(latent["histogram"])
    return {
        **place, "index": str(latent["latent"]), "sourceSetName": place["layer"].split("-", 1)[1], "creatorId": creator,
        "maxActApprox": latent["max_activation"], "frac_nonzero": latent["firing_rate"],
        "pos_str": latent["promoted"], "pos_values": latent["promoted_by"],
        "neg_str": latent["suppressed"], "neg_values": latent["suppressed_by"],
        "freq_hist_data_bar_heights": latent["histogram"],
        "freq_hist_data_bar_values": [(bar + 0.5) * width for bar in range(len(latent["histogram"]))],
    }  # fmt: skip


def activations(
    latent: Mapping[str, Any], contexts: list[Record], place: Mapping[str, str], creator: str
) -> Iterator[Record]:
    bars, most = latent["histogram"], latent["max_activation"]
    for row in contexts:
        text, ends = row["before"] + row["token"] + row["after"], [0, *accumulate(row["lengths"])]
        values = [round(value, 4) for value in row["heat"]]
        bar = min(int(row["activation"] / most * len(bars)), len(bars) - 1)
        interval = (STRONGEST, most, STRONGEST) if row["rank"] < TOP else (
            bar / len(bars) * most, (bar + 1) / len(bars) * most, bars[bar] / max(sum(bars), 1))  # fmt: skip
        yield {
            "id": f"{place['modelId']}/{place['layer']}/{latent['latent']}/{row['rank']}",
            **place, "index": str(latent["latent"]), "creatorId": creator,
            "tokens": [text[start:end] for start, end in pairwise(ends)], "values": values,
            "maxValue": max(values), "maxValueTokenIndex": values.index(max(values)), "minValue": min(values),
            "qualifyingTokenIndex": ends.index(len(row["before"])),
            **dict(zip(("binMin", "binMax", "binContains"), interval, strict=True)),
        }  # fmt: skip


def explanation(latent: Mapping[str, Any], place: Mapping[str, str], creator: str) -> Record:
    return {
        "id": f"{place['modelId']}/{place['layer']}/{latent['latent']}", **place, "index": str(latent["latent"]),
        "authorId": creator, "description": latent["label"],
        "notes": f"tokens that it is active on; F1 {latent['label_score']:.2f} on text that they were not chosen on",
    }  # fmt: skip
