"""Labels that no text decides: the file's own, and a judge's verdict."""

import json
from pathlib import Path

import pytest
import torch

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import expand
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.stages.track import run_answers
from ghosttrack.stages.track.labels import Judgement, judge, with_label, with_verdict
from ghosttrack.stages.track.matching import verdicts
from tests.stages.track.tiny_run import TinyRun, contract
from tests.tiny_models import save_random_model

WRONG = Judgement(1, 1, None, {"exact": 1})
NO_GOLD = Judgement(None, None, "no_gold_answer")


@pytest.mark.parametrize(
    ("judgement", "label", "matching", "given", "expected"),
    [
        (WRONG, 0, "auto", True, (0, None)),
        (WRONG, 0, "auto", False, (1, None)),  # a label is of a given answer, not of the model's own
        (WRONG, 0, "exact", True, (1, None)),
        (WRONG, 0, "label", False, (0, None)),
        (WRONG, None, "label", True, (None, "no_label")),
        (NO_GOLD, 1, "exact", True, (1, None)),
        (NO_GOLD, None, "auto", True, (None, "no_gold_answer")),
    ],
)
def test_when_the_file_s_label_decides(judgement, label, matching, given, expected):
    found = with_label(judgement, label, matching, given)
    assert (found.label, found.excluded) == expected
    assert found.matched.get("label") == label


def test_a_verdict_is_the_label_and_is_kept_beside_the_matchers():
    assert with_verdict(WRONG, True) == Judgement(0, 1, None, {"exact": 1, "judge": 0})
    assert with_verdict(WRONG, None)[:3] == (None, None, "no_verdict")


def test_what_needs_a_file_or_a_model_is_judged_as_auto_where_there_is_neither():
    assert judge("Paris, France", ["Paris"], matching="judge").label == 0
    assert judge("Lyon", ["Paris"], matching="label").label == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(save_random_model(tmp_path_factory.mktemp("m"), "llama"), "float32")


def test_the_judge_s_word_is_its_greedy_one(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(verdicts, "verdict", lambda text: said.append(text))
    prompts = [
        verdicts.asked_of("Who?", ["Ada"], "Eve"),
        verdicts.asked_of("Where is it?", ["Rome"], "in Rome"),
    ]
    assert verdicts.verdicts(model, prompts, 2) == [None, None]
    for prompt, text in zip(prompts, said, strict=True):
        ids = torch.tensor([model.tokenizer(prompt).input_ids])
        own = model.model.generate(ids, max_new_tokens=verdicts.MOST_TOKENS, do_sample=False, pad_token_id=0)
        reference = model.tokenizer.decode(own[0, ids.shape[1] :], skip_special_tokens=True)
        assert text == reference.split("\n")[0].strip()


def test_a_prompt_is_bounded_and_ends_in_the_question_to_the_judge():
    text = verdicts.asked_of("passage " * 2000 + "Who?", [str(n) for n in range(99)], "long " * 2000)
    assert text.endswith("Does the answer say the same as the right one?")
    assert "Who?\nRight: 0 or 1 or 2 or 3 or 4 or 5 or 6 or 7\nAnswer: long" in text
    assert len(text) < 2 * verdicts.MOST_CHARACTERS + 2000


def test_a_run_by_a_judge_and_a_run_by_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = TinyRun(tmp_path / "root").give([("", "The cat sat on", "cat"), ("", "Who is he", "Rome")])
    said = [True, None]
    for matching, wanted in (
        ("judge", [(0, None), (None, "no_verdict")]),
        ("label", [(None, "no_label")] * 2),
    ):
        run.config = run.config.model_copy(
            update={"data": run.config.data.model_copy(update={"matching": matching})}
        )
        monkeypatch.setattr(verdicts, "verdict", lambda _: said.pop(0))
        run.track("answers")
        lines = run.entry("answers").file("generations.jsonl").read_text().splitlines()
        assert [(each["label"], each["excluded"]) for each in map(json.loads, lines)] == wanted
        assert run.metrics("answers")["judge_agrees_with_exact"] == (0.0 if matching == "judge" else None)


def test_another_model_judges_as_a_snapshot_of_its_own(tmp_path: Path) -> None:
    settings = TinyRun(tmp_path / "root").config.model_dump(mode="json", exclude_unset=True)
    settings["data"] |= {"matching": "judge", "judge": "miniature"}
    config = Config.model_validate(settings)
    units = {unit.name: unit for stage in ("prepare", "track") for unit in expand(contract(stage), config)}
    assert "judge" in units
    assert "prepare/judge" in {read.name for read in units["answers"].reads}
    settings["data"]["judge"] = None
    own = {unit.name: unit for unit in expand(contract("prepare"), Config.model_validate(settings))}
    assert "judge" not in own


def test_the_model_under_study_answers_and_the_other_one_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TinyRun(tmp_path / "root").give([("", "The cat sat on", "cat"), ("", "Who is he", "Rome")])
    run.track("answers")
    alone = [json.loads(line)["answer"] for line in run.entry("answers").file("generations.jsonl").open()]
    judged = {"matching": "judge", "judge": str(tmp_path / "other")}
    run.config = run.config.model_copy(update={"data": run.config.data.model_copy(update=judged)})
    run._publish("prepare", "judge", lambda out: save_random_model(out, "gpt2"))
    asked: list[str] = []

    def says_yes(model: LanguageModel, texts: list[str], _: int) -> list[bool]:
        asked.append(model.model.config.model_type)
        return [True] * len(texts)

    monkeypatch.setattr(run_answers, "verdicts", says_yes)
    run.track("answers")
    lines = [json.loads(line) for line in run.entry("answers").file("generations.jsonl").open()]
    assert asked == ["gpt2"]
    assert [line["answer"] for line in lines] == alone
    assert [line["matched"]["judge"] for line in lines] == [0, 0]
