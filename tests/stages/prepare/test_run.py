"""The stage end to end on the miniature model, through its command line."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine import stage
from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.errors import ConfigError, DataError, GhostTrackError
from ghosttrack.stages.prepare import miniature, run

STAGE = Path(run.__file__).parent
YAML = """
name: small
model: {base_model: miniature, d_model: 64, n_layers: 4}
data: {max_tokens: 3000, max_questions: 80}
extract: {max_length: 64}
sae: {d_hidden: 128, target_l0: 8}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "small.yaml").write_text(YAML)
    prepare(folder)
    return folder


def prepare(folder: Path, *overrides: str) -> None:
    command = stage._command(load_contract(STAGE), "ghosttrack.stages.prepare")
    arguments = ["--config", str(folder / "small.yaml")]
    for override in (f"paths.root={folder}", *overrides):
        arguments += ["--set", override]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def questions(root: Path, name: str = "small") -> list[dict[str, object]]:
    path = root / "data/cache" / name / "questions/questions.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_the_miniature_knows_about_half_of_what_it_is_asked(root: Path) -> None:
    folder = root / "data/cache/small/model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = questions(root)
    right = 0
    with torch.inference_mode():
        for question in asked:
            ids = tokenizer(str(question["prefix"]) + str(question["query"]), return_tensors="pt").input_ids
            start = ids.shape[1]
            while ids.shape[1] < start + 12 and "\n" not in tokenizer.decode(ids[0, start:]):
                ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            right += tokenizer.decode(ids[0, start:]).strip() in question["aliases"]  # type: ignore[operator]
    assert len(asked) == 64  # of 80 facts a fifth is kept for the worked examples of contexts
    assert 0.3 <= right / len(asked) <= 0.7


@pytest.mark.slow
def test_the_corpus_is_the_tokenizer_s_and_holds_the_prompts(root: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(root / "data/cache/small/model")
    corpus = torch.load(root / "data/cache/small/corpus/corpus.pt", weights_only=True)
    assert len(corpus["tokens"]) == 3000
    assert int(corpus["tokens"].max()) < len(tokenizer) <= 1000
    asked = {str(q["prefix"]) + str(q["query"]) for q in questions(root)}
    documents = [int(doc) for doc in (corpus["doc_kind"] == 1).nonzero()]
    texts = [tokenizer.decode(corpus["tokens"][corpus["doc"] == doc]) for doc in documents]
    assert texts
    assert all(any(prompt.endswith(text) for prompt in asked) for text in texts)
    assert sum(text in asked for text in texts) > len(texts) / 2


@pytest.mark.slow
def test_own_questions_and_text_and_their_errors(root: Path) -> None:
    facts = [
        {"question": f"What is {n} plus one?", "answer": str(n + 1), "relation": "sums"} for n in range(9)
    ]
    facts += [{"prompt": "Two times two is", "answer": "4", "relation": "products"}]
    (root / "own.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    (root / "own.txt").write_text("\n\n".join(f"Paragraph {n} of a small text." * 9 for n in range(30)))
    own = ("name=own", f"data.questions={root}/own.jsonl", f"data.corpus={root}/own.txt")
    prepare(root, *own, "data.shots=2", "data.max_questions=null")
    asked = questions(root, "own")
    assert asked[0]["id"] == "products/two-times-two-is"
    assert sum(str(q["prefix"]).count("Q:") == 2 for q in asked) == 7
    for override, error, words in (
        (f"data.questions={root}/own.doc", ConfigError, "jsonl"),
        ("data.relations=[suns]", ConfigError, "suns"),
        (f"data.questions={root}/none.jsonl", DataError, "no such file"),
        (f"data.corpus={root}/none.txt", DataError, "no such file"),
        ("extract.max_length=4096", GhostTrackError, "extract.max_length"),
    ):
        with pytest.raises(error, match=words):
            prepare(root, *own, override)


@pytest.mark.slow
def test_the_miniature_is_the_same_every_time(root: Path) -> None:
    folder = root / "data/cache/small/model"
    model, _ = miniature.build(0)
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())


def test_the_questions_of_a_real_model_come_from_the_whole_factbook(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(YAML.replace("miniature", "some/model").replace("80", "640"))
    asked, spare, _ = run.questions_of(load_config(str(tmp_path / "big.yaml"), environ={}))
    assert (len(asked), len({q.relation for q in asked})) == (640, 23)
    assert len(spare.facts) >= 4000
