"""`data.matching: judge`: a model is asked whether an answer says the same as a right one, by one fixed prompt, greedily.

The prompt is plain text with worked examples, so that a model that was never tuned to follow instructions can go on with it;
no chat template is put around it. What the model says is read like any answer of yes or no.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import Prompt, encode
from ghosttrack.stages.track.generate import Ends, give_answers, read_prompts, shared_prefix
from ghosttrack.stages.track.matching.choices import verdict

EXAMPLES = (
    ("What is the highest mountain on Earth?", "Mount Everest", "K2", "No"),
    ("Who wrote Emma?", "Jane Austen", "It was written by Austen.", "Yes"),
    ("How many legs does a spider have?", "8 or eight", "Eight legs", "Yes"),
    ("The official language of Brazil is", "Portuguese", "Brazilian Spanish", "No"),
    ("In which year did the Titanic sink?", "1912", "in 1921", "No"),
    ("The currency of Japan is", "yen or Japanese yen", "the yen", "Yes"),
)
"""Question, right answers, proposed answer, and whether it says the same as a right one."""
MOST_GOLDS, MOST_CHARACTERS, MOST_TOKENS = 8, 1000, 4


def asked_of(question: str, golds: Sequence[str], answer: str) -> str:
    """What the judge reads; a long text keeps its end, where a question is asked, and an answer its beginning."""
    new = (
        _line(question)[-MOST_CHARACTERS:],
        " or ".join(golds[:MOST_GOLDS]),
        _line(answer)[:MOST_CHARACTERS],
    )
    asked = [_put(*example[:3]) + f" {example[3]}\n\n" for example in EXAMPLES]
    return "".join(asked) + _put(*new)


def verdicts(model: LanguageModel, prompts: Sequence[str], batch_size: int) -> list[bool | None]:
    """Of each prompt whether the judge says yes; None where it says neither yes nor no."""
    ends = Ends(model, ["\n"], model.end_tokens()[0])
    found: list[bool | None] = []
    for start in range(0, len(prompts), batch_size):
        encoded = [Prompt(encode(model, text).tokens, None) for text in prompts[start : start + batch_size]]
        with torch.inference_mode():
            read = read_prompts(model, encoded, [], shared_prefix(model, encoded))
        answers, _ = give_answers(model, encoded, read, [], ends, MOST_TOKENS, 1)
        found += [verdict(answer.text) for answer in answers]
    return found


def _put(question: str, golds: str, answer: str) -> str:
    return f"Question: {question}\nRight: {golds}\nAnswer: {answer}\nDoes the answer say the same as the right one?"


def _line(text: str) -> str:
    return " ".join(text.split())
