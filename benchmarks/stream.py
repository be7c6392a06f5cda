"""What a risk for every token adds to plain generation of the same tokens, on this machine.

Usage: python -m benchmarks.stream [--root .] [--name demo] [--tokens 64] [--repeats 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import ghosttrack as gt
from ghosttrack.common.formats.snapshot import CONFIG
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.prompts import encode_prompt
from ghosttrack.stages.detect.token_risk import fit_token_risk
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.speak import speak

PROMPT = "Q: Tell me all you know about the history of France.\nA:"


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median of several runs after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default=".")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    run = gt.open(options.name, root=options.root)
    model = load_language_model(run.file(CONFIG).parent)
    prompt = encode_prompt(model, PROMPT, "", 0)
    ends = Ends(model, [], [])  # nothing ends the answer, so that both say as many tokens
    answers = [answer for answer in run.answers if answer.label is not None]
    risk = fit_token_risk(
        [a.logprobs for a in answers],
        [a.entropies for a in answers],
        run.questions["wrong"].dropna().to_numpy(),
    )

    def plain() -> None:
        model.model.generate(
            torch.tensor([prompt.tokens], device=model.device), attention_mask=torch.ones(1, len(prompt.tokens)),
            max_new_tokens=options.tokens, min_new_tokens=options.tokens, do_sample=False,
        )  # fmt: skip

    def watched() -> None:
        logprobs: list[float] = []
        entropies: list[float] = []
        for spoken in speak(model, prompt, ends, options.tokens):
            logprobs.append(spoken.logprob)
            entropies.append(spoken.entropy)
            risk(logprobs, entropies)

    of_plain, of_watched = seconds(plain, options.repeats), seconds(watched, options.repeats)
    print(f"plain generation:   {of_plain / options.tokens * 1e3:.1f} ms a token")
    print(
        f"with a risk a token: {of_watched / options.tokens * 1e3:.1f} ms a token ({of_watched / of_plain - 1:+.0%})"
    )


if __name__ == "__main__":
    main()
