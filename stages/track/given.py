"""Given answers, read by teacher forcing: what `generate` finds of the model's own answers, of texts that exist already.

Nothing is generated. A response is read whole in one forward pass after its prompt, and unembedded a piece at a time, so
that memory grows with the states that are kept and not with length times vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ghosttrack.common.formats.questions import in_chat, prompt_of
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import Prompt, encode, encode_answer
from ghosttrack.common.models.reading import read_rows
from ghosttrack.stages.track.generate import GreedyAnswer

PIECE = 128
"""Positions that are unembedded at a time."""


class Response(NamedTuple):
    """A response as tokens behind those of its prompt. offsets: characters [start, stop) of the response, a pair a token.

    exact: whether the tokens give the response back to the character.
    """

    prompt: list[int]
    tokens: list[int]
    offsets: list[tuple[int, int]]
    exact: bool


def encode_response(model: LanguageModel, question: Mapping[str, Any], response: str) -> Response:
    """A question's prompt with a response behind it; between them a space where neither has one, and in a chat what its
    template writes there."""
    prompt, special = prompt_of(question), not in_chat(question)
    apart = not special or not prompt or prompt[-1].isspace() or response[:1].isspace()
    joint = "" if apart else " "
    before, tokens = encode_answer(model, prompt, joint + response, special=special)
    start = len(prompt) + len(joint)
    whole = encode(model, prompt + joint + response, special=special)
    offsets = whole.offsets[len(before) : len(before) + len(tokens)]
    own = [(max(first - start, 0), max(stop - start, 0)) for first, stop in offsets]
    return Response(before, tokens, own, model.tokenizer.decode(tokens).strip() == response.strip())


@torch.inference_mode()
def read_response(
    model: LanguageModel, prompt: Prompt, response: Response, layers: Sequence[int], n_candidates: int
) -> GreedyAnswer:
    """A given answer in the form of one that the model gave. Its text is what its tokens say.

    candidates: the response's own next token first, then the likeliest others; at the end the likeliest.
    """
    last, n = len(response.prompt) - 1, len(response.tokens)
    subject = [] if prompt.subject is None or prompt.subject > last else [prompt.subject]
    columns = [*subject, *range(last, last + n + 1)]
    read = read_rows(model, [[*response.prompt, *response.tokens]], [columns], layers)
    final = read.final[0, len(subject) :]
    emitted = torch.tensor([*response.tokens, -1], device=final.device)
    pieces = [
        _candidates(model.logits(piece).float(), own, n_candidates)
        for piece, own in zip(final.split(PIECE), emitted.split(PIECE), strict=True)
    ]
    found = (torch.cat(parts).cpu() for parts in zip(*pieces, strict=True))
    return GreedyAnswer.of(model, list(response.tokens), read.states[0].cpu(), *found)


def _candidates(logits: Tensor, emitted: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens and log-probabilities [n, m], the emitted token (−1: the likeliest) first; entropies [n]."""
    distribution = logits.log_softmax(-1)
    entropies = -(distribution.exp() * distribution).sum(-1)
    likeliest = distribution.topk(min(count, distribution.shape[1]), dim=-1).indices
    first = torch.where(emitted < 0, likeliest[:, 0], emitted)[:, None]
    # The emitted token moves to the front; where it is not among the likeliest, the last of them gives way.
    order = torch.cat([first, likeliest], dim=1)
    repeated = (order == first).int()
    repeated[:, 0] = 0
    kept = order.gather(1, repeated.argsort(dim=1, stable=True))[:, : likeliest.shape[1]]
    return kept, distribution.gather(1, kept), entropies
