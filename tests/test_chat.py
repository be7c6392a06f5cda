"""A chat from the template to the answers, on a random model: what every stage reads is what the template makes of it, and
what the model says is what transformers' own `generate` says."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.common.engine import stage
from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.formats.contexts import read_contexts
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.prompts import Prompt
from ghosttrack.stages.prepare import commands
from ghosttrack.stages.prepare import run as prepare_run
from ghosttrack.stages.track import run as track_run
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.speak import speak
from tests.stages.prepare.test_chat import CHATML
from tests.tiny_models import byte_tokenizer, random_model

YAML = """
name: talk
model: {{base_model: {model}, system: Be brief.{chat}}}
data: {{questions: {folder}/questions.jsonl, corpus: {folder}/text.txt, shots: 2, max_tokens: 16000, prompt_fraction: 0.5}}
extract: {{max_length: 512}}
sae: {{d_hidden: 64, target_l0: 8}}
tracking: {{max_new_tokens: 4, contexts: 6}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a template, a template in a file, questions, and what the stage makes of them."""
    root = tmp_path_factory.mktemp("talk")
    model = random_model("llama")
    model.config.max_position_embeddings = 1024
    model.save_pretrained(root / "model")
    byte_tokenizer().save_pretrained(root / "model")
    (root / "template.jinja").write_text(CHATML)
    rows = [
        {"question": f"What is {n} plus one?", "answer": str(n + 1), "relation": "sums"} for n in range(20)
    ]
    rows += [{"prompt": "Two times two is", "answer": "4", "relation": "sums"}]
    write(root / "questions.jsonl", rows)
    write(
        root / "new.jsonl",
        [{"question": "What is 30 plus one?", "relation": "sums"}, {"question": "Who?"}, {"prompt": "I am"}],
    )
    (root / "text.txt").write_text("\n\n".join(f"Paragraph {n} of a small text." * 9 for n in range(30)))
    (root / "talk.yaml").write_text(
        YAML.format(folder=root, model=root / "model", chat=f", chat: {root}/template.jinja")
    )
    do(root, prepare_run, f"data.asked={root}/new.jsonl")
    units = ("answers", "contexts", "asked_answers", "asked_contexts")
    do(
        root,
        track_run,
        f"data.asked={root}/new.jsonl",
        arguments=[part for unit in units for part in ("--unit", unit)],
    )
    return root  # fmt: skip


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def do(
    root: Path, module: ModuleType, *overrides: str, arguments: Sequence[str] = (), command: Any = None
) -> str:
    arguments = [*arguments, "--config", str(root / "talk.yaml"), "--set", f"paths.root={root}"]
    for override in overrides:
        arguments += ["--set", override]
    folder = Path(str(module.__file__)).parent
    made = command or stage._command(load_contract(folder), f"ghosttrack.stages.{folder.name}")
    result = CliRunner().invoke(made, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def lines(root: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (root / name).read_text().splitlines()]


def test_the_units_ask_in_the_words_of_a_template_file(folder: Path) -> None:
    asked = lines(folder, "data/cache/talk/questions/questions.jsonl")
    turns = [one for one in asked if "closing" in one]
    assert len(asked) - len(turns) == 1
    assert all(one["prefix"].startswith("<|im_start|>system\nBe brief.<|im_end|>\n") for one in turns)
    assert all(one["prefix"].count("<|im_start|>assistant\n") == 2 for one in turns)
    assert {one["closing"] for one in turns} == {"<|im_end|>\n<|im_start|>assistant\n"}
    new = lines(folder, "data/cache/talk/asked/asked.jsonl")
    assert new[0]["prefix"] == turns[0]["prefix"]
    assert new[1]["prefix"] == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert new[2]["prefix"] == ""
    assert "closing" not in new[2]


def test_contexts_are_other_turns(folder: Path) -> None:
    found = read_contexts(folder / "data/cache/talk/contexts/contexts.jsonl")
    turns = [context for context in found if context.chat]
    assert [context.kind for context in turns][:2] == ["examples", "reversed"]
    assert all(context.prefix.endswith("<|im_start|>user\n") for context in turns if not context.instruction)
    for context in turns:
        said = context.prefix
        for shot in context.shots:
            assert (
                f"<|im_start|>user\n{shot[0]}<|im_end|>\n<|im_start|>assistant\n{shot[1]}<|im_end|>\n" in said
            )
        assert said.count("<|im_start|>assistant\n") == len(context.shots)
    assert {context.question for context in found if not context.chat} == {"sums/two-times-two-is"}
    new = read_contexts(folder / "data/cache/talk/asked_contexts/contexts.jsonl")
    assert [context for context in new if context.question is None] == turns

    def kinds(question: str) -> list[str]:
        return [context.kind for context in new if context.question == question]

    assert kinds("line_2")[:4] == ["general"] * 4
    assert all(context.chat for context in new if context.question == "line_2")
    assert not any(context.chat for context in new if context.question == "line_3")


def test_the_corpus_holds_the_turns_as_the_model_reads_them(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "data/cache/talk/model")
    corpus = torch.load(folder / "data/cache/talk/corpus/corpus.pt", weights_only=True)
    texts = [
        tokenizer.decode(corpus["tokens"][corpus["doc"] == doc])
        for doc in (corpus["doc_kind"] == 1).nonzero()[:, 0]
    ]
    assert texts
    assert any(text.endswith("<|im_start|>assistant\n") for text in texts)


def test_data_shows_the_turns_and_says_so(folder: Path) -> None:
    turns = sum("closing" in one for one in lines(folder, "data/cache/talk/questions/questions.jsonl"))
    shown = do(folder, prepare_run, command=commands.data)
    assert f"{turns} are turns of a chat" in shown
    assert "    <|im_start|>assistant" in shown
    plain = do(folder, prepare_run, "model.chat=none", "model.system=null", command=commands.data)
    assert "chat" not in plain
    assert "    A:" in plain


def test_answers_are_those_of_generate_to_the_template_s_own_tokens(folder: Path) -> None:
    source = folder / "data/cache/talk/model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = CHATML
    asked = lines(folder, "data/cache/talk/questions/questions.jsonl")
    given = lines(folder, "results/talk/tracking/generations.jsonl")
    asked += lines(folder, "data/cache/talk/asked/asked.jsonl")
    given += lines(folder, "results/talk/asked/generations.jsonl")
    newline = tokenizer("\n").input_ids
    for question, answer in zip(asked, given, strict=True):
        if "closing" in question:
            turns = [{"role": "system", "content": "Be brief."}]
            for said, known in question["shots"]:
                turns += [{"role": "user", "content": said}, {"role": "assistant", "content": known}]
            turns += [{"role": "user", "content": question["question"]}]
            ids = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_tensors="pt", return_dict=False
            )
        else:
            ids = tokenizer(question["prefix"] + question["query"], return_tensors="pt").input_ids
        with torch.inference_mode():
            expected = model.generate(
                ids, max_new_tokens=4, do_sample=False, pad_token_id=0,
                eos_token_id=None if "closing" in question else newline,
            )[0, ids.shape[1] :].tolist()  # fmt: skip
        assert answer["token_ids"] == [
            token for token in expected if "closing" in question or token not in newline
        ]
        assert answer["prompt"] == tokenizer.decode(ids[0])
    assert len(given) > 15


def test_streaming_says_what_the_answers_say_turn_or_not(folder: Path) -> None:
    """Also where the model has an end token of its own: the third token of an answer is made one."""
    model = load_language_model(folder / "data/cache/talk/model")
    asked = lines(folder, "data/cache/talk/asked/asked.jsonl")
    for question, answer in zip(asked, lines(folder, "results/talk/asked/generations.jsonl"), strict=True):
        chat = "closing" in question
        text = question["prefix"] + question["query"] + question.get("closing", "")
        prompt = Prompt(model.tokenizer(text, add_special_tokens=not chat).input_ids, None)
        ends = Ends(model, [] if chat else ["\n"], model.end_tokens()[0])
        spoken = list(speak(model, prompt, ends, 4))
        assert [one.token for one in spoken] == answer["token_ids"]
        assert "".join(one.text for one in spoken).strip() == answer["answer"]
        if chat and (third := answer["token_ids"][2]) not in answer["token_ids"][:2]:
            ends = Ends(model, [], [*model.end_tokens()[0], third])
            assert [one.token for one in speak(model, prompt, ends, 4)] == answer["token_ids"][:2]
