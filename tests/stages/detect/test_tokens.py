"""Risks of tokens: causal features, documents held out whole, figures against scikit-learn and by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.formats.token_scores import TOKEN_SCORES
from ghosttrack.stages.detect.token_features import LAYER_COLUMNS, LENS_COLUMNS, Tokens, read_tokens
from ghosttrack.stages.detect.tokens import (
    DETECTOR,
    figures,
    out_of_fold,
    recall_at_false_alarms,
    runs_of,
    span_f1,
    wrong_answers,
)

DEPTH, WIDTH, DOCUMENTS, LENGTH = 2, 6, 40, 12


def answer(number: int, rng: np.random.Generator) -> Answer:
    labels: list[int | None] = [0] * LENGTH
    if number % 2:
        start = int(rng.integers(0, LENGTH - 3))
        labels[start : start + 3] = [1] * 3
    labels[-1] = None  # nothing is said of it
    return Answer(
        id=f"d{number}", relation="r", group=f"g{number}", prompt="p", question=f"q {number}", query="p", answer="x", gold="",
        label=number % 2, tokens=["t"] * LENGTH, logprobs=rng.normal(-1, 0.3, LENGTH).tolist(),
        entropies=rng.uniform(0, 2, LENGTH).tolist(), token_labels=labels,
    )  # fmt: skip


def made_up(tmp_path, seed=0, informative=True):
    """Answers, and files in which wrong tokens differ in their states alone."""
    rng = np.random.default_rng(seed)
    answers = [answer(number, rng) for number in range(DOCUMENTS)]
    question = np.repeat(np.arange(DOCUMENTS), LENGTH + 1)
    position = np.tile(np.arange(LENGTH + 1), DOCUMENTS)
    states = rng.normal(size=(len(question), DEPTH, WIDTH)).astype(np.float16)
    label = np.array(
        [
            0 if p == 0 else answers[q].token_labels[p - 1] or 0
            for q, p in zip(question, position, strict=True)
        ]
    )
    if informative:
        states[label == 1, 1, 0] += 3
    np.save(tmp_path / "states.npy", states)
    cells = pd.DataFrame({"question": question.repeat(DEPTH), "position": position.repeat(DEPTH)})
    lens = cells.assign(**{name: rng.uniform(0, 1, len(cells)) for name in LENS_COLUMNS})
    layers = cells.assign(**{name: rng.uniform(0, 1, len(cells)) for name in LAYER_COLUMNS})
    return answers, (question, position), tmp_path / "states.npy", lens, layers


def test_a_token_s_features_are_of_its_own_and_earlier_positions(tmp_path):
    answers, owner, states, lens, layers = made_up(tmp_path)
    tokens = read_tokens(answers, owner, states, lens, layers, DEPTH)
    assert len(tokens.label) == DOCUMENTS * (LENGTH - 1)
    later = owner[1] > 5
    changed = np.load(states)
    changed[later] = 9
    np.save(states, changed)
    for table in (lens, layers):
        table.loc[later.repeat(DEPTH), table.columns[2:]] = 9.0
    for each in answers:
        each.logprobs[5:] = [-9.0] * (LENGTH - 5)
    again = read_tokens(answers, owner, states, lens, layers, DEPTH)
    early = tokens.token <= 5
    for name in tokens.tables:
        assert np.array_equal(tokens.tables[name][early], again.tables[name][early])
        assert not np.array_equal(tokens.tables[name][~early], again.tables[name][~early])
    assert np.array_equal(tokens.states[early], again.states[early])


@pytest.mark.parametrize("informative", [True, False])
def test_what_only_the_states_tell_is_found_and_noise_is_not(tmp_path, informative):
    answers, *files = made_up(tmp_path, informative=informative)
    tokens = read_tokens(answers, *files, DEPTH)
    scores, thresholds = out_of_fold(tokens, tokens.question, [3, 7], 4, 3, 0)
    weights = np.ones((3, len(tokens.label)))
    report = figures(tokens, scores, thresholds, weights, 0.95, wrong_answers(answers, tokens))
    found = report["methods"]
    if informative:
        assert found["probe_7"]["token_auroc"][0] > 0.9
        assert found[DETECTOR]["token_auroc"][0] > 0.9
        assert found[DETECTOR]["answer_auroc"][0] > 0.8
        assert report["detector_less"]["logprob"]["token_auroc"][0] > 0.3
    else:
        assert abs(found[DETECTOR]["token_auroc"][0] - 0.5) < 0.12
    assert abs(found["probe_3"]["token_auroc"][0] - 0.5) < 0.12
    assert found["entropy"]["token_auroc"][0] == pytest.approx(roc_auc_score(tokens.label, tokens.entropy))


def test_recall_at_a_rate_of_false_alarms_is_read_from_the_roc():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 400), rng.normal(size=400).round(1)
    score = score + label
    alarms, recall, _ = roc_curve(label, score, drop_intermediate=False)
    expected = recall[alarms <= 0.1].max()
    assert recall_at_false_alarms(label, score, np.ones((1, 400)))[0] == pytest.approx(expected)


def test_spans_are_found_and_runs_are_right_where_they_touch():
    label = np.array([0, 1, 1, 0, 0, 1, 0, 0, 1])
    tokens = Tokens(
        np.repeat([0, 1], [6, 3]),
        np.array([1, 2, 3, 4, 5, 6, 1, 2, 3]),
        label,
        label * 0,
        label * 0.0,
        label * 0.0,
        {},
        np.zeros(0),
    )
    assert runs_of(tokens, label == 1) == [(1, 3), (5, 6), (8, 9)]
    flagged = np.array([0, 0, 1, 1, 0, 0, 1, 0, 0], dtype=bool)  # one of three spans; one of two runs
    assert span_f1(tokens, flagged, np.ones((1, 9)))[0] == pytest.approx(
        2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)
    )
    assert span_f1(tokens, flagged & False, np.ones((1, 9)))[0] == 0


def test_a_claim_s_relation_alone_tells_nothing_within_relations(tmp_path):
    answers, *files = made_up(tmp_path)
    for number, each in enumerate(answers):
        each.token_relations.extend(
            "capital" if (number + place) % 3 else "border" for place in range(LENGTH)
        )
    tokens = read_tokens(answers, *files, DEPTH)
    scores, thresholds = out_of_fold(tokens, tokens.question, [3, 7], 4, 3, 0)
    weights = np.ones((3, len(tokens.label)))
    report = figures(tokens, scores, thresholds, weights, 0.95, wrong_answers(answers, tokens))
    found = report["methods"]
    own = [
        roc_auc_score(tokens.label[tokens.relation == one], scores[DETECTOR][tokens.relation == one])
        for one in (0, 1)
    ]
    assert found[DETECTOR]["token_auroc_within_relation"][0] == pytest.approx(np.mean(own))
    assert abs(found["relation"]["token_auroc"][0] - 0.5) < 0.1
    assert found["relation"]["token_auroc_within_relation"] == [None, None, None]


def test_an_empty_table_of_tokens_has_the_declared_columns(tmp_path):
    TOKEN_SCORES.write(tmp_path / TOKEN_SCORES.name, pa.table({name: [] for name in TOKEN_SCORES.names}))
    assert len(TOKEN_SCORES.frame(tmp_path / TOKEN_SCORES.name)) == 0
