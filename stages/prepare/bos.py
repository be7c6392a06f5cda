"""Which special tokens stand around a text: those of the tokenizer, or what the model needs where it errs.

Some models are lost without the token that every training text began with (Gemma), and some tokenizers do not put it there; others
close every text with a token after which nothing of it goes on, a prompt too. So the loss on plain prose is measured both ways,
on the same predicted tokens, and the snapshot's tokenizer is made to do what is decided: whoever calls it, for corpus, prompts or
new questions, has the right tokens.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import processors
from transformers import PreTrainedModel

from ghosttrack.common.errors import ConfigError
from ghosttrack.common.models.prompts import around
from ghosttrack.common.models.sizes import context_of
from ghosttrack.stages.prepare.tokenizer import plain

CLEARLY = 0.05
"""Nats a token by which the other way must be better to be taken against the tokenizer."""
PROSE = (
    "The river rises in the hills to the north and runs for most of its length through farmland. In spring it floods the "
    "meadows, and the people of the villages along it have learned to build their houses well above the water.",
    "When she came back from the market, the door was open and nobody was at home. She put the bread on the table, called "
    "twice, and then sat down by the window to wait until one of her brothers returned from the fields.",
    "Water boils at a lower temperature on a high mountain, because the pressure of the air is smaller there. That is why "
    "it takes longer to cook vegetables or rice in a hut near the summit than in a kitchen at the sea.",
    "The committee met on Tuesday to discuss the budget for the coming year. Most of the members agreed that the school "
    "needed a new roof, but they could not decide whether the town should borrow the money or raise a tax.",
    "Cats sleep for much of the day and hunt at dawn and in the evening. Their eyes need little light, and their ears "
    "turn towards a sound before the head does, so that a mouse in the grass is seldom safe from them.",
    "The first railway in the country was opened to carry coal from the mines to the harbour. Within twenty years it was "
    "joined to the lines of its neighbours, and passengers could travel from the coast to the capital in a day.",
)  # fmt: skip


def decide(model: PreTrainedModel, tokenizer: Any, wanted: str) -> tuple[Any, dict[str, Any]]:
    """The tokenizer that does what is decided, and what was measured: losses with and without special tokens, nats a token.

    wanted: `auto`, `always` or `never`. Raises ConfigError where a BOS is demanded and there is none.
    """
    bos = bos_of(model, tokenizer)
    # whichever token: XGLM begins texts with what its tokenizer calls the end
    own, closing = around(tokenizer)
    adds, start = bool(own), own or [token for token in (bos,) if token is not None]
    if not start and wanted == "always":
        raise ConfigError(
            "model.bos = always, but neither the tokenizer nor the model's configuration names a BOS token; set model.bos: auto"
        )
    losses = {
        begun: loss(model, tokenizer, start if begun else []) for begun in ((True, False) if start else ())
    }
    use = adds
    if start:
        asked = {"always": True, "never": False}.get(wanted)
        use = asked if asked is not None else adds != _needs(losses[adds], losses[not adds], tokenizer)
    begun = start if use else []
    ends = {
        closed: loss(model, tokenizer, begun, closing if closed else [], 0.5)
        for closed in (True, False)
        if closing
    }
    closed = bool(closing) and not _needs(ends[True], ends[False], tokenizer)
    found = {
        "bos": use,
        "tokenizer_adds_bos": adds,
        "loss_with_bos": _rounded(losses, True),
        "loss_without_bos": _rounded(losses, False),
        "closed": closed,
        "tokenizer_closes": bool(closing),
        "loss_closed": _rounded(ends, True),
        "loss_open": _rounded(ends, False),
    }
    if (use, closed) == (adds, bool(closing)):
        return tokenizer, found
    return beginning_with(tokenizer, begun, afresh=adds or not closed), found


def _needs(own: float, other: float, tokenizer: Any) -> bool:
    """Whether the model needs the other way, not the tokenizer's own. One that predicts prose worse than a guess (random weights,
    another kind of text) does not say."""
    return own - other > CLEARLY and other < math.log(len(tokenizer))


def _rounded(losses: dict[bool, float], which: bool) -> float | None:
    return round(losses[which], 4) if which in losses else None


def bos_of(model: PreTrainedModel, tokenizer: Any) -> int | None:
    """The BOS token of the tokenizer, or else of the model's configuration, where it exists and has an embedding."""
    for token in (tokenizer.bos_token_id, getattr(model.config.get_text_config(), "bos_token_id", None)):
        if isinstance(token, int) and token in tokenizer.get_vocab().values():
            return token
    return None


@torch.inference_mode()
def loss(
    model: PreTrainedModel,
    tokenizer: Any,
    start: Sequence[int],
    between: Sequence[int] = (),
    share: float = 0.0,
) -> float:
    """Mean cross-entropy of the prose, nats a token, of what follows this share of each text, or its first token.

    start, between: tokens before the text, and before what is predicted. Texts end where the model's context does.
    """
    total, count = 0.0, 0
    longest = context_of(model.config)
    room = None if longest is None else max(longest - len(start) - len(between), 0)
    for text in PROSE:
        tokens = tokenizer(text, add_special_tokens=False).input_ids[:room]
        at = max(1, int(share * len(tokens)))
        ids = torch.tensor([[*start, *tokens[:at], *between, *tokens[at:]]])
        first = len(start) + at + len(between)
        if ids.shape[1] <= first:
            continue
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        known = logits[first - 1 : -1].log_softmax(-1).gather(1, ids[0, first:, None])
        total, count = total - float(known.sum()), count + len(known)
    return total / max(count, 1)


def beginning_with(tokenizer: Any, tokens: Sequence[int], *, afresh: bool) -> Any:
    """A copy of the tokenizer that puts these before every text. afresh: instead of what it puts around texts, and nothing behind."""
    changed = copy.deepcopy(tokenizer)
    backend = changed.backend_tokenizer
    if afresh:
        # changes nothing but offsets, and adds nothing
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    names = tokenizer.convert_ids_to_tokens(list(tokens))
    if names:
        template = processors.TemplateProcessing(
            single=[*(f"{name}:0" for name in names), "$A:0"],
            special_tokens=list(zip(names, tokens, strict=True)),
        )
        before = backend.post_processor
        backend.post_processor = template if before is None else processors.Sequence([before, template])
    found = plain(changed, backend)
    if len(names) == 1:
        found.bos_token = names[0]
    return found
