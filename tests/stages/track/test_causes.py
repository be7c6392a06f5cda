"""Which tracks an answer hangs on: predictions against measured effects where all is linear, controls, and the unit's files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

from ghosttrack.common.errors import DataError, NumericError
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.track.causes import (
    _figures,
    agreement,
    controls_of,
    edits_of,
    nodes_of,
    share,
    track_effects,
)
from ghosttrack.stages.track.commands import intervene
from ghosttrack.stages.track.intervening import Interventions
from ghosttrack.stages.track.nodes import Nodes
from ghosttrack.stages.track.rereading import Rereader
from ghosttrack.stages.track.run_causes import choose_questions
from tests.stages.track.tiny_run import TinyRun, sae

LAYERS = [0, 1, 2]


def nodes():
    """At one problem track 0 over three layers and track 1 at the first alone, with others beside them."""
    rows = {
        "question": np.zeros(8, np.int64), "position": np.zeros(8, np.int64),
        "layer": np.array([0, 0, 0, 1, 1, 2, 2, 2]), "latent": np.array([5, 6, 7, 5, 8, 5, 9, 10]),
        "activation": np.float32([3, 2, 1.9, 4, 1, 2, 1.8, 0.7]), "track": np.array([0, 1, 2, 0, 3, 0, 4, 5]),
    }  # fmt: skip
    return Nodes.of(rows, np.array([[0, 0]]), LAYERS, 4)


def left_of_latents(saes, unit, factor=0.0):
    """By brute force: of track 0, what goes at each layer when nothing but edits changes the state from layer to layer."""
    state, goes = torch.zeros(32), []
    for one, activation in zip(saes, (3.0, 4.0, 2.0), strict=True):
        carried = activation + float(state * one.scale @ one.W_enc[:, 5])
        seen = carried if carried > unit * one.threshold[5] else 0.0
        goes.append(seen - factor * activation)
        state = state - goes[-1] * one.W_dec[5] / one.scale
    return goes, state


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_a_control_loses_as_much_as_goes_of_the_track(factor):
    saes, units = [sae(layer) for layer in LAYERS], 3 * [1.0]
    own = nodes_of(nodes(), [(0, 0)])
    controls = controls_of(nodes(), own, saes, units, factor)
    goes, _ = left_of_latents(saes, 1.0, factor)
    others = {(0, 0, 1): 2.0, (0, 1, 1): 1.0, (0, 2, 1): 1.8}
    expected = [
        (at, max(0.0, activation - gone))
        for (at, activation), gone in zip(others.items(), goes, strict=True)
        if gone
    ]
    assert [at for at, _ in controls] == [at for at, _ in expected]
    assert [left for _, left in controls] == pytest.approx([left for _, left in expected], rel=1e-5, abs=1e-5)
    birth = nodes_of(nodes(), [(0, 0)], at_birth=True)
    assert [at for at, _ in controls_of(nodes(), birth, saes, units)] == [(0, 0, 1)]
    both = controls_of(nodes(), nodes_of(nodes(), [(0, 0), (0, 1)]), saes, units)
    assert both[0][0] == (0, 0, 2)  # one latent is left for two


def test_a_track_is_taken_out_where_it_is_seen():
    own = nodes_of(nodes(), [(0, 0)])
    edits = edits_of(nodes(), LAYERS, [9], [(at, 0.0) for at in own])
    assert [(e.layer, e.place, e.latent, e.value) for e in edits] == [
        (0, 9, 5, 0),
        (1, 9, 5, 0),
        (2, 9, 5, 0),
    ]


@pytest.mark.parametrize("unit", [1.0, 8.0])
def test_predictions_are_exact_where_only_the_residual_stream_carries(unit):
    """By brute force: states that nothing but edits changes from layer to layer, read out by a fixed direction."""
    random = torch.Generator().manual_seed(4)
    read_out = torch.randn(1, 32, generator=random)
    saes = [sae(layer) for layer in LAYERS]
    effects = track_effects(nodes(), read_out[None].expand(3, 1, 32), saes, 3 * [torch.tensor([[unit]])])
    _, state = left_of_latents(saes, unit)
    assert effects.predicted[0] == pytest.approx(-float(state @ read_out[0]), rel=1e-5)
    assert (effects.predicted[effects.strongest(10)] > 0).all()


def test_resampled_figures_are_those_of_pairs_written_down_as_often():
    random = np.random.default_rng(2)
    x, y = (random.integers(0, 9, size=40).astype(np.float64) for _ in range(2))
    times = random.integers(0, 3, size=(5, 40)).astype(np.float64)
    for row, slope, rank in zip(times.astype(int), *_figures(x, y, times), strict=True):
        many, other = x.repeat(row), y.repeat(row)
        assert slope == pytest.approx(stats.linregress(many, other).slope)
        assert rank == pytest.approx(stats.spearmanr(many, other).statistic)


def test_agreement_has_the_slope_and_order_of_its_points():
    random = np.random.default_rng(0)
    predicted = random.normal(size=200)
    found = agreement(
        predicted, 0.5 * predicted + 0.01 * random.normal(size=200), np.repeat(np.arange(40), 5), 0
    )
    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.01)
    assert found.slope_interval[0] < 0.5 < found.slope_interval[1]
    assert found.rank_correlation > 0.99
    assert agreement(predicted[:2], predicted[:2], np.array([0, 1]), 0) is None
    assert share(np.array([True, True, False, False]))[0] == 0.5
    assert share(np.zeros(0, bool)) is None


def test_three_of_four_questions_are_wrong_ones_as_far_as_there_are():
    labels = [1] * 20 + [0] * 20 + [None] * 5
    assert sum(number < 20 for number in choose_questions(labels, 8, 0)) == 6
    assert len(choose_questions(labels, 100, 0)) == 40
    assert choose_questions([0, 0, 1], 2, 0)[-1] == 2


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = TinyRun(tmp_path_factory.mktemp("causes") / "root", causes=4).give()
    return run.track("answers", "association", "all", "causes")


def test_the_unit_measures_single_tracks_and_sets(run):
    table = run.table("causes", CAUSES.name)
    assert set(table.kind) == {"track", "set"}
    first = table[table.question == table.question[0]]
    assert first[first.kind == "set"]["size"].tolist() == sorted(first[first.kind == "set"]["size"])
    assert np.isfinite(table[["predicted", "drop", "control_drop"]].to_numpy()).all()
    assert run.metrics("causes")["interventions"] == 2 * len(table)


@pytest.fixture(scope="module")
def desk(run):
    def entry(unit):
        return run.store.current(run.config.name, *unit.split("/"))

    model = entry("prepare/model").path
    return Interventions.open(model, lambda file: entry(file.unit).file(file.name), run.config)


def test_an_intervention_tells_every_candidates_change_and_the_new_answer(run, desk):
    tracks = run.table("all", "tracks.parquet")
    here = tracks[(tracks.question == 3) & (tracks.position == 0)]
    number = int(here.track.value_counts().index[0])
    found = desk.intervene(desk.number("q3"), [number])
    assert found["answer"] == found["answer"].strip()
    assert len(found["candidates"]) == run.config.tracking.candidates
    assert any(one["change"] != 0 for one in found["candidates"])
    assert found["intervention"] == f"without track {number} at position 0"
    nothing = desk.intervene(3, [number], factor=1.0)
    assert nothing["intervention"] == f"with 1 times track {number} at position 0"
    assert nothing["new_answer"] == nothing["answer"]
    assert max(abs(one["change"]) for one in nothing["candidates"]) < 0.05  # as far as states are rounded


def test_taking_out_nothing_gives_the_answer_that_was_given(desk):
    for number, generation in enumerate(desk.generations):
        bench, ends = desk.bench(number), desk.ends(desk.questions[number])
        assert bench.answer([], ends, desk.config.tracking.max_new_tokens) == generation["answer"]


def test_what_is_not_there_is_said(run, desk):
    with pytest.raises(DataError, match="no track 9999"):
        desk.intervene(0, [9999])
    for name in ("nobody", "9" * 5000):  # of more digits than Python reads
        with pytest.raises(DataError, match=f"no question '{name[:6]}"):
            desk.number(name)
    with pytest.raises(DataError, match="layer 77 is not tracked"):
        desk.intervene(0, latents=[(77, 0)])
    bench = desk.bench(0)
    silent = int((desk.saes[0].encode(bench.states(0, bench.places[-1])) == 0).nonzero()[0])
    with pytest.raises(DataError, match="is not active"):
        desk.intervene(0, latents=[(0, silent)])
    added = desk.intervene(0, latents=[(0, silent)], value=5.0)
    assert added["drop"] != 0
    assert added["intervention"] == f"with latent {silent} of layer 0 at 5"
    with pytest.raises(DataError, match=r"at most 1,000,000, not 1e\+30"):
        desk.intervene(0, latents=[(0, silent)], value=1e30)
    model = load_language_model(run.store.current(run.config.name, "prepare", "model").path, "float16")
    half = replace(desk, model=model, reader=Rereader(model))
    with pytest.raises(NumericError, match=r"overflow in torch\.float16"):
        half.intervene(0, latents=[(0, silent)], value=1e6)
    with pytest.raises(DataError, match="no candidate"):
        desk.intervene(0, candidate="something else")
    with pytest.raises(DataError, match="position 5"):
        desk.intervene(0, [0], position=5)


def test_a_run_that_takes_nothing_out_goes_on(tmp_path):
    run = TinyRun(tmp_path / "root", causes=0).give()
    run.track("answers", "association", "all", "account", "causes", "reasons")
    assert len(run.table("causes", CAUSES.name)["kind"]) == 0


def test_no_tracks_for_a_candidate_are_refused():
    """-1 took all but the last."""
    done = CliRunner().invoke(intervene, ["--config", "demo", "0", "--candidate", "x", "--count", "-1"])
    assert (done.exit_code, "--count" in done.output) == (2, True)
