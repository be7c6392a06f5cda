"""Unit `reasons`: where each wrong answer came from, from the account of the token at which it parts from every right
answer, and from what interventions showed."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.formats.reasons import REASONS
from ghosttrack.common.maths.parting import RIGHT, parting, side
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.reasons import reason, sentence

QUESTIONS_AT_A_TIME = 256


def run(job: Job) -> dict[str, Any]:
    generations = GENERATIONS.read(job.input(GENERATIONS))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        job.input_dir("prepare/model"), trust_remote_code=False
    )
    causes = CAUSES.read(job.input(CAUSES))
    lines = []
    with job.progress(len(generations), "questions", "reasons") as progress:
        for start in range(0, len(generations), QUESTIONS_AT_A_TIME):
            numbers = range(start, min(start + QUESTIONS_AT_A_TIME, len(generations)))
            account = ACCOUNT.read(job.input(ACCOUNT), where={"question": numbers})
            candidates = CANDIDATES.read(job.input(CANDIDATES), where={"question": numbers})
            for number in numbers:
                if generations[number]["label"] != 1:
                    continue
                said = generations[number]["tokens"]
                golds = [normalise(alias) for alias in generations[number]["aliases"]]
                place = parting(said, golds)
                own = (account["question"] == number) & (account["position"] == place)
                if not own.any():  # cut off there
                    place, own = 0, (account["question"] == number) & (account["position"] == 0)
                rows = {name: values[own] for name, values in account.items()}
                there = (candidates["question"] == number) & (candidates["position"] == place)
                texts = [str(tokenizer.decode([token])) for token in candidates["token"][there].tolist()]
                so_far, rest = "".join(said[:place]), "".join(said[place:])
                sides = [side(text, so_far, rest, golds) for text in texts]
                right = [rank for rank in range(1, len(texts)) if sides[rank] == RIGHT]
                found = {"question": number, "id": generations[number]["id"]}
                found |= reason(rows, right, job.config.layers, texts)
                found |= {"position": place, "after": so_far}
                found["smallest_set"] = smallest_set(causes, number, tokenizer)
                lines.append({**found, "sentence": sentence(found)})
            progress.update(len(numbers))
    REASONS.write(job.output(REASONS), lines)
    return {"wrong_answers": len(lines), "kinds": dict(Counter(line["kind"] for line in lines))}


def smallest_set(causes: dict[str, NDArray[Any]], question: int, tokenizer: Any) -> dict[str, Any] | None:
    """The fewest of the strongest tracks without which the first token is another, and what it is under the control."""
    rows = np.flatnonzero((causes["question"] == question) & (causes["kind"] == "set") & causes["changed"])
    if not len(rows):
        return None
    row = rows[np.argmin(causes["size"][rows])]
    return {
        "size": int(causes["size"][row]),
        "says": tokenizer.decode([int(causes["token"][row])]),
        "right": bool(causes["right"][row]),
        "control_says": (
            tokenizer.decode([int(causes["control_token"][row])]) if causes["control_changed"][row] else None
        ),
    }
