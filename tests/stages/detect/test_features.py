"""Track features against a slow reading of their definitions, one track at a time."""

import numpy as np
import pandas as pd
import pytest

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.stages.detect.evidence import PLACES
from ghosttrack.stages.detect.features.tracks import FAMILIES, question_features
from tests.stages.detect import synthetic

LAYERS = [2, 3, 5, 8, 9, 11]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    lines, wrong = synthetic.answers(12)
    table = synthetic.tracks(lines, wrong, LAYERS, width=7)
    kept = np.random.default_rng(3).random(len(table)) > 0.2  # uneven numbers of tracks, and gaps in them
    return table[kept].reset_index(drop=True)


def columns_of(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in table}


def slow_cell(cell: pd.DataFrame) -> dict[str, float]:
    """Some measures of one cell, from their definitions."""
    index = {layer: i for i, layer in enumerate(LAYERS)}
    depth = len(LAYERS)
    tracks = [group for _, group in cell.groupby("track")]
    by_layer = {i: cell[cell.layer == layer] for layer, i in index.items()}
    some = {i: nodes for i, nodes in by_layer.items() if len(nodes)}

    def mean(values: dict[int, float], part: int) -> float:
        inside = [v for i, v in values.items() if part * 2 <= i < part * 2 + 2]
        return float(np.mean(inside)) if inside else 0.0

    entropy, births, deaths, margin, leader, top, gini, cosine, change = ({} for _ in range(9))
    for i, nodes in some.items():
        a = np.sort(nodes.activation.to_numpy(dtype=float))[::-1]
        share = a / a.sum()
        entropy[i] = -np.sum(share * np.log(share))
        margin[i] = (a[0] - a[1]) / a[0] if len(a) > 1 else 1.0
        leader[i] = nodes.track.iloc[int(np.argmax(nodes.activation))]
        top[i] = share[0]
        gini[i] = np.abs(a[:, None] - a).sum() / (2 * len(a) ** 2 * a.mean())
        if i > 0:
            births[i] = sum(index[t.layer.min()] == i for t in tracks) / len(nodes)
        if i < depth - 1:
            deaths[i] = sum(index[t.layer.max()] == i for t in tracks) / len(nodes)
    for i in range(depth):
        links = [
            (now, before)
            for t in tracks
            for before, now in zip(t.itertuples(), list(t.itertuples())[1:], strict=False)
            if index[now.layer] == i
        ]
        if links:
            cosine[i] = np.mean([np.nan_to_num(now.link) for now, _ in links])
            change[i] = np.mean(
                [abs(n.activation - b.activation) / (float(n.activation) + b.activation) for n, b in links]
            )
    lengths = np.array([len(t) for t in tracks])
    masses = np.array([t.activation.sum() for t in tracks])
    x, y = np.array(list(entropy)) / (depth - 1), np.array(list(entropy.values()))
    return {
        "entropy.spread_early": mean(entropy, 0),
        "entropy.spread_late": mean(entropy, 2),
        "entropy.spread_slope": np.polyfit(x, y, 1)[0],
        "churn.births_middle": mean(births, 1),
        "churn.births_early": mean(births, 0),
        "churn.deaths_late": mean(deaths, 2),
        "competition.margin_middle": mean(margin, 1),
        "competition.lead_changes": sum(
            leader[i] != leader[i - 1] for i in range(1, depth) if i in leader and i - 1 in leader
        )
        / (depth - 1),
        "stability.cosine_middle": mean(cosine, 1),
        "stability.variation_late": mean(change, 2),
        "dominance.top_share_late": mean(top, 2),
        "dominance.gini_early": mean(gini, 0),
        "density.alive_early": (len(by_layer[0]) + len(by_layer[1])) / 2,
        "lifetime.mean": lengths.mean() / depth,
        "lifetime.spread": lengths.std() / depth,
        "lifetime.weighted_mean": (lengths * masses).sum() / masses.sum() / depth,
        "lifetime.single_layer": (lengths == 1).mean(),
        "lifetime.longest": lengths.max() / depth,
    }


def test_features_follow_their_definitions(table):
    found = question_features(columns_of(table), 12, LAYERS)
    frame = pd.DataFrame(found.values, columns=found.names)
    for question in range(5):
        of_question = table[table.question == question]
        cells = {p: slow_cell(cell) for p, cell in of_question.groupby("position")}
        answer = [p for p in cells if p > 0]
        places = {"subject": cells.get(-1), "prompt": cells.get(0)}
        if answer:
            places |= {"first": cells[1], "last": cells[max(answer)]}
        for place, expected in places.items():
            for name, value in (expected or {}).items():
                assert frame.loc[question, f"tracks.{place}.{name}"] == pytest.approx(value, abs=1e-6), (
                    question,
                    place,
                    name,
                )


def test_every_family_is_measured_at_every_place(table):
    names = question_features(columns_of(table), 12, LAYERS).names
    assert {tuple(name.split(".")[1:3]) for name in names} == {
        (place, family) for place in PLACES for family in FAMILIES
    }
    assert len(set(names)) == len(names)


def test_a_rung_has_the_tracks_of_its_own_columns(table):
    other = table.assign(x_track=table.groupby(["question", "position"]).cumcount(), x_link=np.nan)
    found = {rung: question_features(columns_of(other), 12, LAYERS, rung) for rung in (None, "x")}
    assert found[None].names == found["x"].names
    alone = found["x"].names.index("tracks.prompt.lifetime.single_layer")
    assert (found["x"].values[:, alone] == 1).all()
    assert (found[None].values[:, alone] < 1).any()


def test_numbering_of_tracks_and_latents_does_not_matter(table):
    other = table.assign(track=table.track * 3 + 7, latent=0)
    np.testing.assert_array_equal(
        question_features(columns_of(table), 12, LAYERS).values,
        question_features(columns_of(other), 12, LAYERS).values,
    )


def test_a_question_without_answer_tokens_has_no_answer_features(table):
    only_prompt = table[(table.question != 4) | (table.position <= 0)]
    found = question_features(columns_of(only_prompt), 13, LAYERS)
    at_prompt = np.array([name.split(".")[1] in ("subject", "prompt") for name in found.names])
    assert np.isfinite(found.values[4, at_prompt]).all()
    assert np.isnan(found.values[4, ~at_prompt]).all()
    assert np.isnan(found.values[12]).all()


def test_few_layers_are_enough():
    lines, wrong = synthetic.answers(5)
    for layers in ([0], [0, 1]):
        found = question_features(columns_of(synthetic.tracks(lines, wrong, layers)), 5, layers)
        rows = [row for row, line in enumerate(lines) if line["tokens"] and line["subject_found"]]
        assert rows
        assert np.isfinite(found.values[rows]).all()


def test_nan_activations_and_effects_are_refused(table):
    for column in ("activation", "effect"):
        bad = table.assign(**{column: table[column].where(table.index != 50, np.nan)})
        with pytest.raises(NumericError, match=f"{column} of question {table.question[50]} is not finite"):
            question_features(columns_of(bad), 12, LAYERS)


def test_unknown_layers_are_refused(table):
    with pytest.raises(CorruptInputError, match="layer 11"):
        question_features(columns_of(table), 12, LAYERS[:-1])
