"""One greedy answer, token by token as it unfolds, with what the model's distribution says of each token."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ghosttrack.common.models.going_on import GoingOn
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import Prompt
from ghosttrack.common.models.reading import ReadBatch
from ghosttrack.stages.track.generate import Ends, read_prompts

UNFINISHED = "\ufffd"
"""What a tokenizer decodes to where a character's last byte is still to come."""


class Spoken(NamedTuple):
    """text: what the token adds to the answer. logprob, entropy: of the distribution that it was chosen from, nats."""

    token: int
    text: str
    logprob: float
    entropy: float


@torch.inference_mode()
def unfold(
    model: LanguageModel, read: tuple[ReadBatch, Tensor], ends: Ends, most: int
) -> Iterator[tuple[int, Tensor]]:
    """One greedy answer: each token as soon as it is chosen, and the log-probabilities [n_vocabulary] that it was chosen by; the
    same tokens as `give_answers` gives. read: one text, from `read_prompts`; most: tokens."""
    rows, logits = read
    going, said = GoingOn(model, rows), list[int]()
    while len(said) < most:
        if said:
            logits = model.logits(going.step(torch.tensor(said[-1:]))[0]).float()
        distribution = logits[0].log_softmax(-1)
        token = distribution.argmax()
        if bool(ends.reached([said], token[None])[0]):
            return
        said.append(int(token))
        yield said[-1], distribution


@torch.inference_mode()
def speak(model: LanguageModel, prompt: Prompt, ends: Ends, max_new_tokens: int) -> Iterator[Spoken]:
    """The tokens of the answer to a prompt."""
    said, written = list[int](), ""
    for token, distribution in unfold(model, read_prompts(model, [prompt], ()), ends, max_new_tokens):
        said.append(token)
        text = model.tokenizer.decode(said)
        going_on = text.endswith(UNFINISHED) and len(said) < max_new_tokens
        added = "" if going_on else text[len(written) :]
        written += added
        entropy = -(distribution.exp() * distribution).sum()
        yield Spoken(token, added, float(distribution[token]), float(entropy))
