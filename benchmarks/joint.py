"""One prompt with all worked examples against the contexts one by one: `python -m benchmarks.joint ROOT [--quick]`.

A control of the contexts (METHOD.md): whether reading the answer once after the prompt's own examples and those of every
context, in one long prompt, does as well as its mean probability over the contexts. ROOT holds a finished run of the demo; of its
development questions (the frozen test is left closed) at most 256 are read, evenly drawn, of relations whose contexts are all of
new examples. `--quick`: 64.

Ends with one line of JSON: AUROC of own log-probability, of the long prompt and of the contexts, alone and with the trained
score of one prompt added one to one, each with the interval of its difference (cluster bootstrap, paired), pooled and within relations:
alone to the contexts', added to the detector's, which reads more of the contexts than the mean; processor seconds of the long prompts.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from ghosttrack.common.config.schema import TrackingConfig
from ghosttrack.common.formats.answers import GENERATIONS, Answer, read_answers
from ghosttrack.common.formats.contexts import CONTEXTS, Context, contexts_by_question, read_contexts
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.questions import QUESTIONS
from ghosttrack.common.formats.scores import MAIN_SPLIT, SCORE_TABLE
from ghosttrack.common.maths.bootstrap import group_weights, interval
from ghosttrack.common.maths.metrics import auroc_by_block
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.prompts import encode
from ghosttrack.stages.detect.features.contexts import ANCHOR, context_features
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.questions import read_questions
from ghosttrack.stages.track.reread import ContextReader

Floats = NDArray[np.float64]
NAME = "demo"
MOST, QUICK = 256, 64
RESAMPLES = 1000


def long_prompt(question: dict[str, Any], contexts: Sequence[Context]) -> str:
    """The prompt's own worked examples, those of all contexts, and the question."""
    return "".join([question["prefix"], *(context.prefix for context in contexts), question["query"]])


def read_in_long_prompts(
    model: LanguageModel, questions: Sequence[dict[str, Any]], contexts: Sequence[Sequence[Context]], answers: Sequence[Answer]
) -> Floats:  # fmt: skip
    """Log-probability of each answer, [n]."""
    ends = Ends(model, ["\n"], model.end_tokens()[0])
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, question in enumerate(questions):
        groups[question["prefix"]].append(row)
    found = np.zeros(len(questions))
    for rows in groups.values():
        prompts = [encode(model, long_prompt(questions[row], contexts[row])).tokens for row in rows]
        reader = ContextReader(model, [prompts], ends, TrackingConfig().max_new_tokens)
        for row, [forced] in zip(rows, reader.score([[answers[row].token_ids] for row in rows]), strict=True):
            found[row] = forced.evidence
    return found


def compared(
    scores: dict[str, Floats], labels: Floats, relation: Sequence[str], groups: Sequence[str]
) -> dict[str, Any]:
    """Of each score its AUROC, pooled and within relations, and its difference with its interval to `contexts`, or to `anchored`
    of those that are joined to the trained score."""
    weights = group_weights(groups, RESAMPLES, 0)
    codes = np.unique(list(relation), return_inverse=True)[1]
    values = {
        name: {
            "auroc": auroc_by_block(labels, score, np.zeros(len(labels), dtype=np.int64), weights)[:, 0],
            "within": np.nanmean(auroc_by_block(labels, score, codes, weights), axis=1),
        }
        for name, score in scores.items()
    }
    against = {name: "anchored" if name.endswith(("+trained", "anchored")) else "contexts" for name in scores}
    return {
        name: {
            metric: [
                round(float(found[0]), 3),
                [round(part or 0.0, 3) for part in interval(found - values[against[name]][metric], 0.95)],
            ]
            for metric, found in each.items()
        }
        for name, each in values.items()
    }


def measure(root: Path, most: int) -> dict[str, Any]:
    cache, results = root / "data" / "cache" / NAME, root / "results" / NAME
    questions = read_questions(cache / "questions" / QUESTIONS.name)
    answers = read_answers(results / "tracking" / GENERATIONS.name)
    contexts = contexts_by_question(read_contexts(cache / "contexts" / CONTEXTS.name), questions)
    table = SCORE_TABLE.frame(
        results / "detection" / SCORE_TABLE.name, ["question", "split", "repeat", "method", "probability"]
    )
    own = table[(table.split == MAIN_SPLIT) & (table.repeat == 0)]
    chances = own.pivot(index="question", columns="method", values="probability")
    rows = [row for row in chances.index.sort_values() if all(c.kind == "examples" for c in contexts[row])]
    rows = rows[:: -(-len(rows) // most)]
    start = time.process_time()
    model = load_language_model(cache / "model")
    long = read_in_long_prompts(
        model,
        [questions[row] for row in rows],
        [contexts[row] for row in rows],
        [answers[row] for row in rows],
    )
    seconds = time.process_time() - start
    evidence = EVIDENCE.read(
        results / "tracking" / EVIDENCE.name, [name for name in EVIDENCE.names if name != "text"]
    )
    features = context_features(evidence, len(questions))
    alone = {
        "own": np.array([-sum(answers[row].logprobs) for row in rows]),
        "long_prompt": -long,
        "contexts": features.values[rows, features.names.index(ANCHOR)],
    }
    trained, anchored = (
        _standard(logit(chances.loc[rows, method].to_numpy(dtype=np.float64)))
        for method in ("full", "anchored")
    )
    joined = {f"{name}+trained": _standard(score) + trained for name, score in alone.items()}
    labels = np.array([answers[row].label for row in rows], dtype=np.float64)
    return {
        "questions": len(rows),
        "processor_seconds": round(seconds, 1),
        **compared(
            {**alone, **joined, "anchored": anchored}, labels, [answers[row].relation for row in rows], [answers[row].group for row in rows]
        ),
    }  # fmt: skip


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="where the demo is finished")
    parser.add_argument("--quick", action="store_true", help="fewer questions")
    options = parser.parse_args()
    print(json.dumps(measure(options.root, QUICK if options.quick else MOST)))


if __name__ == "__main__":
    main()
