"""SAEs for tiny models, a corpus for them to read, and losses computed the long way round."""

import torch
from torch import Tensor

from ghosttrack.common.formats.corpus import Corpus
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.sae import JumpReLUSAE
from tests.tiny_models import D_MODEL, VOCABULARY

D_HIDDEN = 48
LENGTH = 16
SEGMENTS = [9, 7, 16, 2, 14, 12, 4]
"""Tokens of each segment, a document each; rows of LENGTH."""


def corpus() -> Corpus:
    """Four rows; every document is held out but that of the first segment."""
    doc = torch.repeat_interleave(torch.arange(len(SEGMENTS)), torch.tensor(SEGMENTS))
    generator = torch.Generator().manual_seed(4)
    return Corpus(
        token=torch.randint(VOCABULARY, (len(doc),), generator=generator, dtype=torch.int32),
        doc=doc.int(),
        position=torch.cat([torch.arange(n, dtype=torch.int32) for n in SEGMENTS]),
        held_out=doc > 0,
        kind=torch.zeros(len(doc), dtype=torch.uint8),
    )


def random_sae(layer: int, norm_limit: float = float("inf"), seed: int = 0) -> JumpReLUSAE:
    generator = torch.Generator().manual_seed(100 * seed + layer)
    decoder = torch.nn.functional.normalize(torch.randn(D_HIDDEN, D_MODEL, generator=generator), dim=1)
    return JumpReLUSAE(
        W_enc=decoder.T.contiguous(), b_enc=torch.zeros(D_HIDDEN), W_dec=decoder, b_dec=torch.full((D_MODEL,), 0.1),
        threshold=torch.full((D_HIDDEN,), 0.3), mean=torch.full((D_MODEL,), 0.2), scale=0.7, norm_limit=norm_limit,
        layer=layer, target_l0=12.0,
    )  # fmt: skip


def identity_sae(layer: int) -> JumpReLUSAE:
    """Every state comes out as it went in: a latent for each direction, up and down."""
    eye = torch.eye(D_MODEL)
    decoder = torch.cat([eye, -eye])
    return JumpReLUSAE(
        W_enc=decoder.T.contiguous(), b_enc=torch.zeros(2 * D_MODEL), W_dec=decoder, b_dec=torch.zeros(D_MODEL),
        threshold=torch.zeros(2 * D_MODEL), mean=torch.zeros(D_MODEL), scale=1.0, norm_limit=float("inf"),
        layer=layer, target_l0=float(D_MODEL),
    )  # fmt: skip


def zero_sae(layer: int) -> JumpReLUSAE:
    """Nothing is ever active and nothing is added: every state comes out as zero."""
    sae = identity_sae(layer)
    sae.threshold.fill_(float("inf"))
    return sae


def long_way(
    model: LanguageModel, segments: list[Tensor], saes: dict[int, JumpReLUSAE], means: dict[int, Tensor], kind: str
) -> tuple[float, float]:  # fmt: skip
    """Sums of cross-entropy and KL, a segment at a time in a batch of its own, through the whole model, float64."""
    total_ce = total_kl = 0.0
    for tokens in segments:
        ids, states = tokens[None], {}
        with model.reading(list(saes), states.__setitem__), torch.inference_mode():
            clean = model.model(ids).logits[0].double().log_softmax(-1)
        handles = []
        for layer, sae in saes.items():
            keep = [
                t > 0 and float(torch.linalg.vector_norm(states[layer][0, t])) < sae.norm_limit
                for t in range(len(tokens))
            ]

            def hook(module, arguments, output, sae=sae, keep=keep, layer=layer):  # type: ignore[no-untyped-def]
                whole, output = output, output if isinstance(output, Tensor) else output[0]
                new = output.clone()
                for t, wanted in enumerate(keep):
                    if wanted and kind == "sae":
                        new[0, t] = sae.decode(sae.encode(output[0, t]))
                    elif wanted:
                        new[0, t] = means[layer] if kind == "mean" else 0.0
                return new if isinstance(whole, Tensor) else (new, *whole[1:])

            handles.append(model.blocks[layer].register_forward_hook(hook))
        with torch.inference_mode():
            found = model.model(ids).logits[0].double().log_softmax(-1)
        for handle in handles:
            handle.remove()
        for t in range(1, len(tokens) - 1):
            total_ce -= float(found[t, tokens[t + 1]])
            total_kl += float((clean[t].exp() * (clean[t] - found[t])).sum())
    return total_ce, total_kl
