"""The whole demo and its parts against what their arithmetic alone would take: one line of JSON.

    python -m benchmarks.pipeline [--quick] [--finished ROOT | --against COMMIT [--rounds N]]

Runs `demo` in an empty folder (`--quick`: 128 questions and ten layers), or looks at a run that is there. A part's floor is the
FLOP that it cannot do without, at the rate of fp32 matrix products measured here and now: forward passes of every token
that is new once, logits where they are read, 10 · d · h a sample of SAE training. `floor_ratio`: floors of all parts
over the time of the demo; `answers_ratio`: that of the answers alone. `parts`: seconds, CPU seconds and floor of each unit.

`--against`: the same of another commit (in a git worktree of its own) and of this tree, in turn, so that both see the same machine; of
each figure the medians `before` and `after`, and the median of after / before by round.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import ghosttrack as gt
from ghosttrack.common.config.schema import Config
from ghosttrack.common.formats.answers import GENERATIONS, read_answers
from ghosttrack.common.formats.contexts import CONTEXTS, Context, contexts_by_question, read_contexts
from ghosttrack.common.formats.corpus import CORPUS
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.questions import QUESTIONS
from ghosttrack.common.models.products import linear
from ghosttrack.common.models.prompts import common_prefix

NAME = "demo"
HERE = Path(__file__).resolve().parents[1]
FIGURES = (
    "demo_seconds",
    "floor_ratio",
    "answers_ratio",
    "detect_seconds_1000q",
    "open_seconds",
    "ask_seconds",
)
QUICK = ("data.max_questions=128", "data.max_tokens=8000", "model.layers=20-29", "tracking.causes=16")
ASKED = "What is the capital of Norway?"


class Model(NamedTuple):
    """FLOP of a token: through all blocks, and for its logits. tokenizer: of the snapshot."""

    blocks: float
    logits: float
    tokenizer: Any


def gemm_rate(seconds: float = 2.0) -> float:
    """FLOP a second of fp32 matrix products of a prompt's size, the best of repeated ones on all threads."""
    a, b = torch.randn(512, 1024), torch.randn(1024, 1024)
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        linear(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * a.shape[0] * b.numel() / best


def read_model(folder: Path) -> Model:
    from safetensors import safe_open
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder).get_text_config()
    blocks = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        blocks += sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2)
        blocks -= sum(math.prod(shape) for shape in shapes.values() if config.vocab_size in shape)
    return Model(
        2 * blocks, 2 * config.vocab_size * config.hidden_size, AutoTokenizer.from_pretrained(folder)
    )


def new_tokens(prompts: Sequence[Sequence[int]], alike: Sequence[str]) -> int:
    """Tokens to be read where what all prompts of a kind begin with is read once."""
    kinds: dict[str, list[Sequence[int]]] = defaultdict(list)
    for prompt, kind in zip(prompts, alike, strict=True):
        kinds[kind].append(prompt)
    return sum(
        (shared := common_prefix(own)) + sum(len(prompt) - shared for prompt in own) for own in kinds.values()
    )


def flop_of_answers(model: Model, questions: Sequence[Mapping[str, Any]], run: gt.Run) -> float:
    answers = read_answers(run.file(GENERATIONS))
    prompts = model.tokenizer([q["prefix"] + q["query"] for q in questions])["input_ids"]
    said = sum(len(answer.token_ids) for answer in answers)
    positions = said + 2 * len(answers)  # the subject, the last prompt token, and the answer
    tokens = new_tokens(prompts, [q["prefix"] for q in questions]) + said
    return tokens * model.blocks + (positions * len(run.layers) + said + len(answers)) * model.logits


def flop_of_contexts(model: Model, questions: Sequence[Mapping[str, Any]], run: gt.Run) -> float:
    columns = ["question", "context", "hypothesis", "n_tokens"]
    table = EVIDENCE.read(run.file(EVIDENCE), columns)
    own = contexts_by_question(read_contexts(run.file(CONTEXTS)), questions)
    texts, kinds = [], []
    for question, others in zip(questions, own, strict=True):
        for prefix, query in [(question["prefix"], question["query"]), *map(_pair(question), others)]:
            texts.append(prefix + query)
            kinds.append(prefix)
    said = int(table["n_tokens"].sum())
    tokens = new_tokens(model.tokenizer(texts)["input_ids"], kinds) + said
    return tokens * model.blocks + (said + len(table["n_tokens"])) * model.logits


def _pair(question: Mapping[str, Any]) -> Any:
    def pair(context: Context) -> tuple[str, str]:
        return context.prefix, question["query"] if context.query is None else context.query

    return pair


def floors(run: gt.Run, config: Config, rate: float) -> dict[str, float]:
    """Seconds by unit that its arithmetic takes at this rate, of the units whose arithmetic is told."""
    model = read_model(run.entry("prepare/model").path)
    questions = QUESTIONS.read(run.file(QUESTIONS))
    tokens = len(torch.load(run.file(CORPUS), weights_only=True)["tokens"])
    sample = 10 * config.model.d_model * config.sae.d_hidden
    training, n_layers = config.sae_training, len(run.layers)
    flop = {
        "extract": tokens * model.blocks,
        "sae_train/base": training.base_epochs * training.base_tokens_per_layer * n_layers * sample,
        "sae_train/layers": training.epochs * tokens * n_layers * sample,
        "track/answers": flop_of_answers(model, questions, run),
        "track/contexts": flop_of_contexts(model, questions, run),
    }
    return {name: value / rate for name, value in flop.items()}


def parts(root: Path) -> dict[str, list[float]]:
    """Seconds and CPU seconds by unit, from the manifests; a stage's layers together."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for file in sorted((root / ".store" / "current" / NAME).glob("*/*/manifest.json")):
        stage, unit = file.parts[-3], file.parts[-2]
        usage = json.loads(file.read_text("utf-8"))["predicate"]["resourceUsage"]
        name = {"extract": "extract"}.get(stage, f"{stage}/{'layers' if unit.startswith('layer_') else unit}")
        for place, key in enumerate(("elapsedSec", "cpuSec")):
            found[name][place] += usage[key]
    return dict(found)


def timed(root: Path, code: str) -> float:
    """Seconds that a fresh process takes for a piece of Python after importing ghosttrack as gt; `mark()` begins anew."""
    program = (
        "import time\nimport ghosttrack as gt\nstart = [time.perf_counter()]\n"
        "mark = lambda: start.__setitem__(0, time.perf_counter())\n"
        f"{code.replace('ROOT', repr(str(root)))}\nprint(time.perf_counter() - start[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure(root: Path, seconds: float | None, overrides: Sequence[str]) -> dict[str, Any]:
    """All figures of a finished run. seconds: that it took; None: its parts together."""
    run = gt.open(NAME, root=root, overrides=overrides)
    rate = gemm_rate()
    each, floor = parts(root), floors(run, run.config, rate)
    whole = seconds if seconds is not None else sum(wall for wall, _ in each.values())
    n = sum(answer.label is not None for answer in read_answers(run.file(GENERATIONS)))
    opened = timed(root, f"run = gt.open({NAME!r}, root=ROOT)\nrun.scores")
    asked = timed(root, f"run = gt.open({NAME!r}, root=ROOT)\nrun.ask({ASKED!r})\nmark()\nrun.ask({ASKED!r})")
    return {
        "demo_seconds": round(whole, 1),
        "floor_ratio": round(sum(floor.values()) / whole, 3),
        "answers_ratio": round(floor["track/answers"] / each["track/answers"][0], 3),
        "detect_seconds_1000q": round(each["detect/all"][0] * 1000 / n, 1),
        "open_seconds": round(opened, 2),
        "ask_seconds": round(asked, 2),
        "gemm_gflops": round(rate / 1e9),
        "threads": torch.get_num_threads(),
        "questions": n,
        "parts": {
            name: [round(wall, 1), round(cpu, 1), round(floor[name], 1) if name in floor else None]
            for name, (wall, cpu) in each.items()
        },
    }


def against(tree: Path, commit: str, rounds: int, options: Sequence[str] = ()) -> dict[str, Any]:
    """A commit and the tree measured in turn, which of them first in turn as well. options: of the benchmark."""
    found: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch) / "before"
        git = ["git", "-C", str(tree), "worktree"]
        subprocess.run([*git, "add", "--detach", str(other), commit], check=True, stdout=sys.stderr)
        try:
            for number in range(rounds):
                sides = [("before", other), ("after", tree)]
                for name, place in sides if number % 2 == 0 else reversed(sides):
                    found[name].append(_measured(place, options))
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    report: dict[str, Any] = {"against": commit, "rounds": rounds}
    for figure in FIGURES:
        pairs = [[each[figure] for each in round_] for round_ in zip(*found.values(), strict=True)]
        before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(new / old for old, new in pairs)
        report[figure] = {"before": before, "after": after, "ratio": round(ratio, 3)}
    return report


def _measured(tree: Path, options: Sequence[str]) -> dict[str, Any]:
    """What the benchmark of a tree says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline", *options], check=True, stdout=subprocess.PIPE, text=True, cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"},
    )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer questions, tokens and layers")
    parser.add_argument("--finished", type=Path, metavar="ROOT", help="look at the demo that is there")
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit, in turn")
    parser.add_argument("--rounds", type=int, default=3, help="of --against")
    arguments = parser.parse_args()
    if arguments.against is not None:
        options = ["--quick"] if arguments.quick else []
        print(json.dumps(against(HERE, arguments.against, arguments.rounds, options)))
        return
    if arguments.finished is not None:
        print(json.dumps(measure(arguments.finished, None, ())))
        return
    with tempfile.TemporaryDirectory() as folder:
        overrides = (f"paths.root={folder}", *(QUICK if arguments.quick else ()))
        command = [sys.executable, "-m", "ghosttrack.orchestrate", "run", NAME]
        start = time.perf_counter()
        subprocess.run(
            [*command, *(part for one in overrides for part in ("--set", one))], check=True, stdout=sys.stderr
        )
        print(json.dumps(measure(Path(folder), time.perf_counter() - start, overrides[1:])))


if __name__ == "__main__":
    main()
