"""What reading answers in other contexts costs beside giving them: one line of JSON.

    python -m benchmarks.contexts <model folder> <results of prepare: questions.jsonl> <contexts.jsonl> [--questions 64]

Both are run on the same questions, batch size and threads: greedy answers with their states and logit lens, then every answer
in every context. `ratio` is the time of the contexts over that of the answers.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from ghosttrack.common.formats.contexts import contexts_by_question, read_contexts
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.prompts import encode_prompt
from ghosttrack.stages.track.generate import Ends, greedy_answers, read_prompts, shared_prefix
from ghosttrack.stages.track.lens import read_lens
from ghosttrack.stages.track.questions import plan_shards, read_questions
from ghosttrack.stages.track.run_contexts import BATCHES, prompts_of, read_batch

LIMIT = 12
BATCH = 32
CANDIDATES = 16


def measure(folder: Path, questions_file: Path, contexts_file: Path, most: int) -> dict[str, object]:
    """Seconds of both, on the first questions of every relation in turn."""
    questions = read_questions(questions_file)
    step = max(1, len(questions) // most)
    questions = questions[::step][:most]
    own = contexts_by_question(read_contexts(contexts_file), questions)
    model = load_language_model(folder)
    ends = Ends(model, ["\n"], model.end_tokens()[0])
    layers = list(range(len(model.blocks)))
    start = time.perf_counter()
    given: dict[int, list[int]] = {}
    for batch in (b for s in plan_shards([q["prefix"] for q in questions], len(questions), BATCH) for b in s):
        asked = [questions[number] for number in batch.numbers]
        prompts = [
            encode_prompt(model, q["prefix"] + q["query"], q["subject"], len(q["prefix"])) for q in asked
        ]
        read = read_prompts(model, prompts, layers, shared_prefix(model, prompts))
        answers = greedy_answers(model, prompts, read, layers, ends, LIMIT, CANDIDATES)
        for number, answer in zip(batch.numbers, answers, strict=True):
            given[number] = answer.token_ids
            two = answer.candidates[[max(place, 0) for place in answer.positions], :2]
            emitted, rival = (column.repeat_interleave(len(layers)) for column in two.T)
            read_lens(model, answer.states.flatten(0, 1), emitted, rival)
    answered = time.perf_counter()
    keys = [
        "\0".join([q["prefix"], *(c.prefix for c in each)]) for q, each in zip(questions, own, strict=True)
    ]
    for shard in plan_shards(keys, len(questions), BATCHES * BATCH):
        for batch in shard:
            prompts_here = [prompts_of(model, questions[number], own[number]) for number in batch.numbers]
            read_batch(model, ends, LIMIT, prompts_here, [given[number] for number in batch.numbers])
    done = time.perf_counter()
    return {
        "questions": len(questions),
        "contexts": max(map(len, own), default=0),
        "threads": torch.get_num_threads(),
        "answers_seconds": round(answered - start, 2),
        "contexts_seconds": round(done - answered, 2),
        "ratio": round((done - answered) / (answered - start), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("contexts", type=Path)
    parser.add_argument("--questions", dest="most", type=int, default=128)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.model, arguments.questions, arguments.contexts, arguments.most)))


if __name__ == "__main__":
    main()
