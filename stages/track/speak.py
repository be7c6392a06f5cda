"""One greedy answer, token by token as it unfolds, with what the model's distribution says of each token."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ghosttrack.common.models.going_on import GoingOn
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import Prompt
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
def speak(model: LanguageModel, prompt: Prompt, ends: Ends, max_new_tokens: int) -> Iterator[Spoken]:
    """The answer's tokens, each as soon as it is chosen; the same as `greedy_answers` gives."""
    rows, logits = read_prompts(model, [prompt], ())
    going = GoingOn(model, rows)
    said: list[int] = []
    written = ""
    for step in range(max_new_tokens):
        if step:
            logits = model.logits(going.step(torch.tensor(said[-1:], device=model.device))[0]).float()
        distribution = logits[0].log_softmax(-1)
        token = distribution.argmax()
        if bool(ends.reached([said], token[None])[0]):
            return
        said.append(int(token))
        text = model.tokenizer.decode(said)
        going_on = text.endswith(UNFINISHED) and len(said) < max_new_tokens
        added = "" if going_on else text[len(written) :]
        written += added
        entropy = -(distribution.exp() * distribution).sum()
        yield Spoken(said[-1], added, float(distribution[token]), float(entropy))
