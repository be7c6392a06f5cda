"""A model of which nothing is known: two commands to the report, in a folder of the user's; and a .gguf file as a model."""

import json
from pathlib import Path

import pytest
import torch

from ghosttrack.stages.prepare.factbook import facts
from ghosttrack.stages.prepare.snapshot import load_source
from tests.commands import ghosttrack
from tests.tiny_gguf import save_tiny_gguf
from tests.tiny_models import random_model, save_random_model

pytestmark = pytest.mark.slow

N_QUESTIONS = 80
FAMILY = "phi"
SHORT = [
    part
    for setting in ("data.max_tokens=6000", "detection.folds=2", "detection.inner_folds=2", "detection.relation_folds=0",
                    "detection.permutations=5", "evaluation.bootstrap=100", "tracking.max_new_tokens=4",
                    "tracking.clusters=4", "tracking.top_k_features=12")
    for part in ("--set", setting)
]  # fmt: skip
"""Only less of everything: nothing that a model would need."""


def write_questions(source: str, path: Path) -> None:
    """Of every other one the right answer is how the model's own begins: a random model knows nothing."""
    model, tokenizer = load_source(source)
    chosen = [fact for fact in facts() if fact.relation in ("capital", "continent")][:N_QUESTIONS]
    with path.open("w", encoding="utf-8") as file:
        for number, fact in enumerate(chosen):
            prompt = f"The {fact.relation} of {fact.subject} is"
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            with torch.inference_mode():
                said = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)  # type: ignore[operator]
            own = tokenizer.decode(said[0, ids.shape[1] :]).split("\n")[0].strip()
            answer = own if number % 2 and own else fact.answer
            row = {"prompt": prompt, "answer": answer, "relation": fact.relation, "subject": fact.subject}
            file.write(json.dumps(row) + "\n")


def test_two_commands_from_a_model_to_the_report(tmp_path: Path) -> None:
    source = save_random_model(tmp_path / "model", FAMILY)
    write_questions(str(source), tmp_path / "questions.jsonl")
    given = ("--model", "model", "--questions", "questions.jsonl", "--hours", "0.01")
    ghosttrack("init", "mine", *given, cwd=tmp_path)
    ghosttrack("run", "mine", *SHORT, cwd=tmp_path)
    report = json.loads((tmp_path / "results/mine/evaluation/final_report.json").read_text())
    assert report["name"] == "mine"
    assert report["model"] == source.name  # its path is of this machine
    assert (tmp_path / "results/mine/report/report.md").stat().st_size


def test_a_gguf_file_is_the_model_that_was_written_to_it(tmp_path: Path) -> None:
    """From the snapshot on, nothing knows what a model came from."""
    save_tiny_gguf(tmp_path / "model.gguf")
    loaded, tokenizer = load_source(str(tmp_path / "model.gguf"))
    ids = torch.arange(40).view(1, -1)
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded(ids).logits, random_model("llama").eval()(ids).logits, rtol=1e-4, atol=1e-4
        )
    assert tokenizer.decode(tokenizer("The capital of France is").input_ids) == "The capital of France is"
