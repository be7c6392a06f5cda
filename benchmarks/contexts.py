"""What reading answers in other contexts costs beside giving them: `python -m benchmarks.contexts [ROOT] [--quick]`.

Of the demo as prepared under ROOT, or in an empty folder where none is given, some questions of every relation are answered, with
states and logit lens, and then every answer is read in every context, as `track/answers` and `track/contexts` do it: in one
process, on the same questions and threads. `--quick`: fewer questions; more of them share what they begin with, so that both are
cheaper a question in a whole run.

Ends with one line of JSON: seconds and processor seconds of both, `ratio` of the contexts to the answers, and whether it is at
most `limit` (`met`; null with `--quick`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ghosttrack.common.config.schema import TrackingConfig
from ghosttrack.common.formats.contexts import CONTEXTS, contexts_by_question, read_contexts
from ghosttrack.common.formats.questions import QUESTIONS
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.prompts import encode_prompt
from ghosttrack.stages.track.generate import Ends, give_answers, read_prompts, shared_prefix
from ghosttrack.stages.track.lens import read_lens
from ghosttrack.stages.track.questions import plan_shards, read_questions
from ghosttrack.stages.track.run_contexts import keys_of, prompts_of, read_batch

NAME = "demo"
LIMIT = 1.5
"""Most that the contexts may take, in times of the answers."""
SETTINGS = TrackingConfig()
MOST, QUICK = 256, 64


def measure(root: Path, most: int) -> dict[str, float | int]:
    """Seconds of both, on every so-many-th question. root: where the demo's stage prepare is done."""
    cache = root / "data" / "cache" / NAME
    questions = read_questions(cache / "questions" / QUESTIONS.name)
    questions = questions[:: -(-len(questions) // most)]
    own = contexts_by_question(read_contexts(cache / "contexts" / CONTEXTS.name), questions)
    model = load_language_model(cache / "model")
    ends = Ends(model, ["\n"], model.end_tokens()[0])
    layers = list(range(len(model.blocks)))
    start = _now()
    given: dict[int, list[int]] = {}
    for batch in (
        b
        for s in plan_shards([q["prefix"] for q in questions], len(questions), SETTINGS.batch_size)
        for b in s
    ):
        asked = [questions[number] for number in batch.numbers]
        prompts = [
            encode_prompt(model, q["prefix"] + q["query"], q["subject"], len(q["prefix"])) for q in asked
        ]
        read = read_prompts(model, prompts, layers, shared_prefix(model, prompts))
        answers, _ = give_answers(
            model, prompts, read, layers, ends, SETTINGS.max_new_tokens, SETTINGS.candidates
        )
        for number, answer in zip(batch.numbers, answers, strict=True):
            given[number] = answer.token_ids
            two = answer.candidates[[max(place, 0) for place in answer.positions], :2]
            emitted, rival = (column.repeat_interleave(len(layers)) for column in two.T)
            read_lens(model, answer.states.flatten(0, 1), emitted, rival)
    answered = _now()
    for shard in plan_shards(keys_of(questions, own), len(questions), SETTINGS.batch_size):
        for batch in shard:
            prompts_here = [prompts_of(model, questions[number], own[number]) for number in batch.numbers]
            mine = [given[number] for number in batch.numbers]
            read_batch(model, ends, SETTINGS.max_new_tokens, prompts_here, mine)
    done = _now()
    (giving, giving_processor), (reading, reading_processor) = (
        [round(stop - begin, 2) for begin, stop in zip(*pair, strict=True)]
        for pair in ((start, answered), (answered, done))
    )
    return {
        "questions": len(questions),
        "contexts": max(map(len, own), default=0),
        "threads": torch.get_num_threads(),
        "answers_seconds": giving,
        "answers_processor_seconds": giving_processor,
        "contexts_seconds": reading,
        "contexts_processor_seconds": reading_processor,
        "ratio": round((done[0] - answered[0]) / (answered[0] - start[0]), 3),
        "limit": LIMIT,
    }


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "root", nargs="?", type=Path, help="where the demo is prepared; an empty folder when left out"
    )
    parser.add_argument("--quick", action="store_true", help="fewer questions; says nothing of the limit")
    options = parser.parse_args()
    most = QUICK if options.quick else MOST
    if options.root is not None:
        found = measure(options.root, most)
    else:
        with tempfile.TemporaryDirectory() as folder:
            settings = ["--config", NAME, "--set", f"paths.root={folder}"]
            subprocess.run([sys.executable, "-m", "ghosttrack.stages.prepare", *settings], check=True)
            found = measure(Path(folder), most)
    print(json.dumps({**found, "met": None if options.quick else found["ratio"] <= LIMIT}))


if __name__ == "__main__":
    main()
