"""Unit `association`: the association model fitted to held-out text, and what every latent is about."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from ghosttrack.common.engine.fingerprint import name_of
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.association import ASSOCIATION
from ghosttrack.common.formats.corpus import CORPUS, read_corpus
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.maths.arrays import Floats
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.held_out import HeldOutText, held_out_text
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.steps import dealt
from ghosttrack.common.models.vocabulary import all_texts
from ghosttrack.stages.track.association import Association, fit
from ghosttrack.stages.track.corpus_scans import CorpusScans, scan_text
from ghosttrack.stages.track.excerpts import Windows, excerpts
from ghosttrack.stages.track.loaded import language_model_of, load_saes
from ghosttrack.stages.track.naming import histograms, labels, words_of
from ghosttrack.stages.track.readout import ReadOut

PROMOTED = 8
"""Tokens a latent that are named, each way."""
CONTEXTS = 20
"""Contexts a latent: the ten strongest, and ten at all strengths."""


def run(job: Job) -> dict[str, Any]:
    layers, saes = job.config.layers, load_saes(job)
    model = language_model_of(job)
    association, found, text = fit_to_text(job, model, saes)
    association.save(job.output(ASSOCIATION))
    pieces = all_texts(model.tokenizer)
    windows, read_out = Windows(found, text, pieces), ReadOut.of(model)
    number, words = words_of(pieces)
    token = text.token.numpy()
    spoken = (number[token[found.row, found.column]], number[token[found.row, found.column - 1]])

    def about(place: int) -> tuple[pa.Table, pa.Table]:
        sae, layer = saes[place], layers[place]
        named = labels(found, place, sae.d_hidden, *spoken, words)
        return (
            _latents_table(layer, sae, found, place, read_out, pieces, named),
            excerpts(found, windows, place, layer, CONTEXTS, sae.d_hidden),
        )

    with (
        job.progress(len(layers), "layers", "latents") as progress,
        LATENTS.in_pieces(job.output(LATENTS)) as write_latents,
        LATENT_CONTEXTS.in_pieces(job.output(LATENT_CONTEXTS)) as write_contexts,
    ):
        for latents, contexts in dealt(about, range(len(layers)), model.device):
            write_latents(latents)
            write_contexts(contexts)
            progress.update(1)
    return figures(found)


def fit_to_text(
    job: Job, model: LanguageModel, saes: list[JumpReLUSAE]
) -> tuple[Association, CorpusScans, HeldOutText]:
    """The association model of SAEs, what they see in the held-out text, and the text."""
    settings = job.config
    found, text = scan_held_out(job, model, saes, settings.tracking.fit_tokens)
    provenance = {
        "tokens": int(text.real.sum()), "text": "held-out documents", "model": name_of(settings.model.base_model),
    }  # fmt: skip
    decoders = [sae.W_dec for sae in saes]
    each = partial(dealt, device=model.device)
    return fit(found.scans, decoders, settings.layers, settings.seed, provenance, each=each), found, text


def scan_held_out(
    job: Job, model: LanguageModel, saes: list[JumpReLUSAE], n_tokens: int
) -> tuple[CorpusScans, HeldOutText]:
    """What SAEs see in about so many tokens of held-out text, and the text."""
    settings = job.config
    corpus = read_corpus(job.input(CORPUS), model.unembedding.shape[0])
    random = generator(settings.seed, "track", "association")
    text = held_out_text(corpus, n_tokens, settings.extract.max_length, random)
    with job.progress(int(text.real.sum()), "tok", "held-out text") as progress:
        found = scan_text(
            model, text, saes, settings.layers, settings.tracking.top_k_features, settings.extract.batch_size,
            progress.update,
        )  # fmt: skip
    return found, text


def figures(found: CorpusScans) -> dict[str, Any]:
    return {
        "scans": len(found.scans.latents),
        "left_out": {"position_0": found.at_start, "norm_outlier": found.outliers},
        "active_beyond_top_k": round(found.beyond_k, 3),
    }


def _latents_table(
    layer: int, sae: JumpReLUSAE, found: CorpusScans, place: int, read_out: ReadOut, pieces: list[str],
    named: tuple[list[str | None], Floats],
) -> pa.Table:  # fmt: skip
    (raised, by), (lowered, by_lowered) = read_out.promoted(sae.W_dec, pieces, PROMOTED)
    most, counts = histograms(found, place, sae.d_hidden)
    return pa.table(
        {
            "layer": pa.array(np.full(sae.d_hidden, layer), pa.int16()),
            "latent": pa.array(np.arange(sae.d_hidden), pa.int32()),
            "firing_rate": pa.array(found.firing_rate[place], pa.float32()),
            "mean_activation": pa.array(found.mean_activation[place], pa.float32()),
            "promoted": raised,
            "suppressed": lowered,
            "promoted_by": pa.array(by, pa.list_(pa.float32())),
            "suppressed_by": pa.array(by_lowered, pa.list_(pa.float32())),
            "label": pa.array(named[0], pa.string()),
            "label_score": pa.array(named[1], pa.float32(), from_pandas=True),
            "max_activation": pa.array(most),
            "histogram": pa.array(list(counts.astype(np.int32)), pa.list_(pa.int32())),
        }
    )
