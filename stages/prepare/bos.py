"""Whether a text begins with the model's BOS token: what the tokenizer does, or what the model needs where it forgets.

Some models are lost without the token that every training text began with (Gemma), and some tokenizers do not put it there.
So the loss on plain prose is measured both ways, on the same predicted tokens, and the snapshot's tokenizer is made to do
what is decided: whoever calls it, for corpus, prompts or new questions, has the right tokens.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import processors
from transformers import PreTrainedModel

from ghosttrack.common.errors import ConfigError
from ghosttrack.common.models.prompts import beginning
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
    """The tokenizer that does what is decided, and what was measured: losses with and without BOS, nats a token.

    wanted: `auto`, `always` or `never`. Raises ConfigError where a BOS is demanded and there is none.
    """
    bos = bos_of(model, tokenizer)
    # whichever token: XGLM begins texts with what its tokenizer calls the end
    own = [token for token in beginning(tokenizer) if token in tokenizer.all_special_ids]
    adds, start = bool(own), own or [token for token in (bos,) if token is not None]
    if not start:
        if wanted == "always":
            raise ConfigError(
                "model.bos = always, but neither the tokenizer nor the model's configuration names a BOS token; set model.bos: auto"
            )
        return tokenizer, {
            "bos": False,
            "tokenizer_adds_bos": False,
            "loss_with_bos": None,
            "loss_without_bos": None,
        }
    losses = {True: loss(model, tokenizer, start), False: loss(model, tokenizer, [])}
    use = {"always": True, "never": False}.get(wanted)
    if use is None:
        better = losses[adds] - losses[not adds] > CLEARLY
        # a model that predicts prose worse than a guess (random weights, another kind of text) does not say what it needs
        use = adds != (better and losses[not adds] < math.log(len(tokenizer)))
    found = {
        "bos": use,
        "tokenizer_adds_bos": adds,
        "loss_with_bos": round(losses[True], 4),
        "loss_without_bos": round(losses[False], 4),
    }
    return (tokenizer if use == adds else beginning_with(tokenizer, bos if use else None)), found


def bos_of(model: PreTrainedModel, tokenizer: Any) -> int | None:
    """The BOS token of the tokenizer, or else of the model's configuration, where it exists and has an embedding."""
    for token in (tokenizer.bos_token_id, getattr(model.config.get_text_config(), "bos_token_id", None)):
        if isinstance(token, int) and 0 <= token < len(tokenizer):
            return token
    return None


@torch.inference_mode()
def loss(model: PreTrainedModel, tokenizer: Any, start: Sequence[int]) -> float:
    """Mean cross-entropy of the prose after these tokens, nats, over all tokens of each text but its first."""
    total, count = 0.0, 0
    for text in PROSE:
        ids = [*start, *tokenizer(text, add_special_tokens=False).input_ids]
        first = len(start) + 1
        if len(ids) <= first:
            continue
        tokens = torch.tensor([ids])
        logits = model(input_ids=tokens, use_cache=False).logits[0].float()
        known = logits[first - 1 : -1].log_softmax(-1).gather(1, tokens[0, first:, None])
        total, count = total - float(known.sum()), count + len(known)
    return total / max(count, 1)


def beginning_with(tokenizer: Any, bos: int | None) -> Any:
    """A copy of the tokenizer that puts this token before every text, or none."""
    changed = copy.deepcopy(tokenizer)
    backend = changed.backend_tokenizer
    if bos is None:
        backend.post_processor = processors.ByteLevel(
            trim_offsets=False
        )  # changes nothing but offsets, and adds nothing
    else:
        name = tokenizer.convert_ids_to_tokens(bos)
        template = processors.TemplateProcessing(single=f"{name}:0 $A:0", special_tokens=[(name, bos)])
        before = backend.post_processor
        backend.post_processor = template if before is None else processors.Sequence([before, template])
    found = plain(changed, backend)
    if bos is not None:
        found.bos_token = tokenizer.convert_ids_to_tokens(bos)
    return found
