"""Stone Soup's multi-frame assignment tracker as oracle, on small scenes that both are given."""

import datetime

import numpy as np
import pytest
from stonesoup.dataassociator.mfa import MFADataAssociator
from stonesoup.hypothesiser.mfa import MFAHypothesiser
from stonesoup.hypothesiser.probability import PDAHypothesiser
from stonesoup.models.measurement.linear import LinearGaussian
from stonesoup.models.transition.linear import CombinedLinearGaussianTransitionModel, RandomWalk
from stonesoup.predictor.kalman import KalmanPredictor
from stonesoup.types.detection import Detection
from stonesoup.types.mixture import GaussianMixture
from stonesoup.types.numeric import Probability
from stonesoup.types.state import TaggedWeightedGaussianState
from stonesoup.types.track import Track
from stonesoup.types.update import GaussianMixtureUpdate
from stonesoup.updater.kalman import KalmanUpdater

from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.association import fit
from ghosttrack.stages.track.scenes import CUTOFF, Planted, plant, reported
from ghosttrack.stages.track.scoring import Snapshot, score

PLANTED = Planted(
    n_layers=8, d_model=8, latents=400, features=4, dropout=0.1, clutter=4.0, wander=0.2, lasting=True
)
FITTED, SCENES = 800, 12
START = datetime.datetime(2000, 1, 1)
DIRECTION_NOISE = 1e-4
"""Variance a dimension of a measured direction: scenes have none, and a filter needs some."""


def clutter_density():
    """Of clutter in the space of states. Clutter is spread over the unit sphere (of 8 dimensions, area π⁴ / 3) and two units
    of log-activation; across the sphere the filter's prediction has the density of a Gaussian at its middle."""
    across = np.sqrt(2 * np.pi * PLANTED.drift**2 / PLANTED.d_model)
    return PLANTED.clutter / (np.pi**4 / 3 * 2 * across)


def oracle(scans, decoders, truth):
    """Snapshots of Stone Soup's tracks, which are given the features of the first layer and the planted parameters."""
    width = PLANTED.d_model + 1
    walks = [RandomWalk(PLANTED.drift**2 / PLANTED.d_model)] * PLANTED.d_model + [
        RandomWalk(PLANTED.wander**2)
    ]
    noise = np.diag([DIRECTION_NOISE] * PLANTED.d_model + [PLANTED.noise**2])
    measure = LinearGaussian(width, tuple(range(width)), noise)
    updater = KalmanUpdater(measure)
    single = PDAHypothesiser(
        KalmanPredictor(CombinedLinearGaussianTransitionModel(walks)), updater, clutter_density(),
        Probability(1 - PLANTED.dropout), Probability(0.999),
    )  # fmt: skip
    associator = MFADataAssociator(MFAHypothesiser(single), slide_window=3)
    tracks = {
        Track([GaussianMixture([TaggedWeightedGaussianState(
            state[:, None], noise, timestamp=START, weight=Probability(1), tag=[])])]): number
        for number, state in zip(truth[0].numbers.tolist(), truth[0].states, strict=True)
    }  # fmt: skip
    snapshots = [truth[0]]
    for layer in range(1, PLANTED.n_layers):
        now = START + datetime.timedelta(seconds=layer)
        ranks = np.flatnonzero(scans.activations[layer] > 0)
        detections = {
            Detection(
                np.append(decoders[layer][scans.latents[layer, rank]].numpy(), np.log(scans.activations[layer, rank]))[:, None],
                timestamp=now, measurement_model=measure,
            )
            for rank in ranks
        }  # fmt: skip
        for track, multihypothesis in associator.associate(set(tracks), detections, now).items():
            components = [
                updater.update(hypothesis) if hypothesis else hypothesis.prediction
                for hypothesis in multihypothesis
            ]
            track.append(GaussianMixtureUpdate(hypothesis=multihypothesis, components=components))
        best = {
            number: max(track.state.components, key=lambda each: float(each.weight))
            for track, number in tracks.items()
        }
        states = [np.asarray(state.state_vector, dtype=np.float64).ravel() for state in best.values()]
        snapshots.append(Snapshot(np.array(list(best)), np.array(states)))
    return snapshots


@pytest.mark.slow
def test_hypotheses_find_as_much_as_stone_soup():
    scene = plant(PLANTED, FITTED + SCENES, seed=0)
    association = fit(scene.scans.of(slice(0, FITTED)), scene.decoders, range(PLANTED.n_layers), seed=0)
    held_out, truth = scene.scans.of(slice(FITTED, FITTED + SCENES)), scene.truth[FITTED:]
    tracks = follow(held_out, association, "hypotheses", scene.decoders, seed=0)
    ours, theirs = [], []
    for problem in range(SCENES):
        scans = type(held_out)(held_out.latents[problem], held_out.activations[problem])
        expected = oracle(scans, scene.decoders, truth[problem])
        found = reported(held_out, tracks, scene.decoders, problem)
        # The oracle is told the first layer.
        theirs.append(score(truth[problem][1:], expected[1:], CUTOFF).gospa)
        ours.append(score(truth[problem][1:], found[1:], CUTOFF).gospa)
    print(f"GOSPA: ours {np.mean(ours):.4f}, Stone Soup {np.mean(theirs):.4f}")
    assert np.mean(theirs) < 0.5 * CUTOFF * np.sqrt(PLANTED.features / 2)  # the oracle does track
    assert np.mean(ours) <= 1.05 * np.mean(theirs)
