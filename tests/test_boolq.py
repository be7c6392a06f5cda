"""Sixty rows of BoolQ, in its own columns, from the file to the report: passages, questions of several lines, yes and no."""

import importlib
import json
import logging
from pathlib import Path

import pytest
import torch

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import expand, load_contracts, stage_module
from ghosttrack.common.engine.stage import run_units
from ghosttrack.common.formats.final_report import FinalReport
from ghosttrack.stages.track import run_validation
from tests.tiny_models import byte_tokenizer, random_model

NAMES, CITIES = ("sam", "max", "leo", "eva", "ada"), ("lima", "oslo", "rome", "bonn")
YAML = """
name: boolq
paths: {{root: {root}}}
model: {{base_model: {root}/model, layers: [0, 1]}}
data: {{questions: {root}/boolq.jsonl, corpus: {root}/text.txt, max_tokens: 3000, shots: 1}}
extract: {{max_length: 128}}
sae: {{d_hidden: 64, target_l0: 8}}
sae_training: {{batch_size: 256, epochs: 1, base_tokens_per_layer: 1000, splice_tokens: 64}}
tracking: {{max_new_tokens: 4, contexts: 1, fit_tokens: 256, top_k_features: 8, clusters: 2, causes: 0, ladder: [none]}}
detection: {{repeats: 1, folds: 2, inner_folds: 2, relation_folds: 0, answer_folds: 0, permutations: 0, early_points: 1}}
evaluation: {{bootstrap: 100}}
"""


def rows() -> list[dict[str, object]]:
    found = []
    for number in range(65):  # five are worked examples
        name, home, asked = f"{NAMES[number % 5]} {number}", CITIES[number % 4], CITIES[number // 2 % 4]
        passage = f"{name.title()} lives in {home.title()}."
        found.append(
            {"question": f"does {name} live in {asked}", "answer": home == asked, "passage": passage}
        )
    return found


def save_model_that_says_yes(folder: Path) -> None:
    """A random one, tuned for a moment: what comes after `A:` is Yes."""
    torch.manual_seed(0)
    model, tokenizer = random_model("llama"), byte_tokenizer()
    model.config.max_position_embeddings = 1024
    texts = [f"{row['passage']}\nQ: {row['question']}?\nA: Yes\n" for row in rows()[::6]]
    rows_of_ids = [tokenizer(text, return_tensors="pt").input_ids for text in texts]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        ids = rows_of_ids[step % len(rows_of_ids)]
        labels = torch.cat([torch.full_like(ids[:, :-5], -100), ids[:, -5:]], dim=1)
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss < 0.1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every stage makes of it, in the order of the pipeline and in this process; few planted scenes."""
    root = tmp_path_factory.mktemp("boolq")
    save_model_that_says_yes(root / "model")
    (root / "boolq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    (root / "text.txt").write_text("\n\n".join(f"Paragraph {n} of a small text." * 6 for n in range(30)))
    (root / "boolq.yaml").write_text(YAML.format(root=root))
    config = load_config(str(root / "boolq.yaml"), [], environ={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_validation, "SCENE_PROBLEMS", (30, 10))
        for each in load_contracts():
            if each.phase is not None:
                work = importlib.import_module(f"{stage_module(each.home)}.run")
                names = tuple(unit.name for unit in expand(each, config))
                run_units(each, work.run, config, names=names, log=logging.getLogger("test"))
    return root / "results/boolq"


def test_sixty_rows_of_boolq_run_to_a_report(results: Path) -> None:
    report = FinalReport.model_validate_json((results / "evaluation/final_report.json").read_text())
    answers = [json.loads(line) for line in (results / "tracking/generations.jsonl").read_text().splitlines()]
    assert {answer["answer"] for answer in answers} == {"Yes"}
    wrong = sum("No" in answer["aliases"] for answer in answers)
    assert (report.data.n_questions, report.data.n_labelled, report.data.n_wrong) == (60, 60, wrong)
    assert 0 < wrong < 60
    assert len({answer["group"] for answer in answers}) == 60
    assert all(answer["prompt"].endswith(f"{answer['query']}") for answer in answers)
