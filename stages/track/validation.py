"""Whether tracks can be believed, before anything is built on them: four questions, each against what chance would give.

Planted scenes: does an associator find tracks whose truth is known? Likelihood: do fitted links foretell how active a
feature is at the next layer, in text they were not fitted to, better than links dealt at random? Life: do tracks outlast
those of decoders whose rows were permuted? Causes: does taking a latent out of the stream lower the latent that it is linked
to more than it lowers the same latent to take out one of the same strength that it is not linked to?
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ghosttrack.common.formats.ladder import ASSOCIATORS
from ghosttrack.common.maths.arrays import Bools, Floats, Ints, Singles
from ghosttrack.common.models.held_out import HeldOutText
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.associate.hypotheses import look_back
from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.association import Association, Scans, fit
from ghosttrack.stages.track.scenes import SCENES, Scene, plant, scores
from ghosttrack.stages.track.scoring import Score

SMOOTHED = "nearest_look_back"
"""Control: nearest neighbour whose existence is judged with the next scans known, as that of several hypotheses is."""
SIGNIFICANT = 0.01
LEAST_LIFE_RATIO = 5.0
LEAST_LIFE, DEEP = 8.0, 16
"""Layers that a track should last, in models of at least so many layers."""
LEAST_PROBLEMS = 10


class Verdict(NamedTuple):
    """A question, whether it was answered as it should be (None: there was nothing to tell it from), and in words how."""

    question: str
    passed: bool | None
    words: str


def scene_tracks(name: str, n_fit: int, n_test: int, seed: int) -> tuple[Scene, dict[str, Tracks]]:
    """A scene, and associator → its tracks there. Fitted on other problems of the same scene."""
    planted = SCENES[name]
    scene = plant(planted, n_fit + n_test, seed)
    association = fit(scene.scans.of(slice(n_fit)), scene.decoders, range(planted.n_layers), seed)
    test = scene._replace(scans=scene.scans.of(slice(n_fit, None)), truth=scene.truth[n_fit:])
    ways: dict[str, Tracks] = {
        associator: follow(test.scans, association, associator, test.decoders, seed=seed)
        for associator in ASSOCIATORS
    }
    ways[SMOOTHED] = ways["nearest"]._replace(existence=ways["nearest"].existence.copy())
    look_back(ways[SMOOTHED], test.scans, association)
    return test, ways


def scene_scores(scene: Scene, ways: Mapping[str, Tracks]) -> dict[str, dict[str, list[float]]]:
    """Associator → measure → a value a problem. scene, ways: of `scene_tracks`."""
    found = {way: np.array(scores(scene, tracks), dtype=np.float64) for way, tracks in ways.items()}
    return {way: dict(zip(Score._fields, each.T.tolist(), strict=True)) for way, each in found.items()}


def judge_scenes(found: dict[str, dict[str, dict[str, list[float]]]]) -> Verdict:
    """Multi-hypothesis against nearest neighbour on the scenes with clutter or dropouts together, by GOSPA, paired: as it
    is, and looking back as they do."""
    question = "Are planted tracks found, and better by several hypotheses than by one?"
    hard = [name for name in ("dropout", "clutter", "all") if name in found]
    many, one, smoothed, dealt = (
        np.concatenate([found[name][associator]["gospa"] for name in hard])
        for associator in ("hypotheses", "nearest", SMOOTHED, "random")
    )
    p = max(less(many, one), less(many, smoothed))
    passed = p < SIGNIFICANT and many.mean() < dealt.mean()
    return Verdict(
        question, bool(passed),
        f"Where detections are missed or false, the mean GOSPA (lower is better) is {many.mean():.3f} with several "
        f"hypotheses, {one.mean():.3f} with the nearest neighbour, {smoothed.mean():.3f} with that one and existence judged "
        f"in the light of the next scans, as hypotheses judge it (one-sided paired p = {p:.2g}, the larger of both), and "
        f"{dealt.mean():.3f} with random association of the same births and lengths; {len(many)} problems.",
    )  # fmt: skip


def link_likelihoods(scans: Scans, tracks: Tracks, association: Association) -> tuple[Floats, Bools]:
    """Mean log density of a linked latent's log-activation, given that of the latent it continues, over the links of one
    layer of each problem; and which problems have such a link. [n_problems] each, nats."""
    total, count = np.zeros((2, len(scans.latents)))
    for _, problem, _, density in link_densities(scans, tracks, association):
        np.add.at(total, problem, density)
        np.add.at(count, problem, 1)
    return total / np.maximum(count, 1), count > 0


def link_densities(
    scans: Scans, tracks: Tracks, association: Association
) -> Iterator[tuple[int, Ints, Ints, Floats]]:
    """Layer by layer from the second on, of the links from the layer before: problem and rank of each, and its log density of
    the log-activation given that of the latent it continues, nats."""
    k, noise = scans.latents.shape[2], float(association.noise_variance)
    for layer in range(1, scans.latents.shape[1]):
        problem, rank = np.nonzero(tracks.previous[:, layer] >= (layer - 1) * k)
        before = tracks.previous[problem, layer, rank] % k
        change = scans.level[problem, layer, rank] - scans.level[problem, layer - 1, before]
        spread = np.sqrt(float(association.change_variance[layer - 1]) + 2 * noise)
        yield layer, problem, rank, stats.norm.logpdf(change, float(association.drift[layer - 1]), spread)


def judge_likelihood(linked: Floats, dealt: Floats) -> Verdict:
    question = "Do links foretell activations in text that they were not fitted to?"
    if len(linked) < LEAST_PROBLEMS:
        few = f"There were links at {len(linked)} tokens only, too few to tell; raise tracking.fit_tokens."
        return Verdict(question, None, few)
    p = less(-linked, -dealt)
    return Verdict(
        question, p < SIGNIFICANT and float(linked.mean()) > float(dealt.mean()),
        f"The log density of the next layer's log-activation is {linked.mean():.3f} nats a link for the links that were "
        f"made, and {dealt.mean():.3f} for links dealt at random with the same births, lengths and deaths "
        f"(one-sided paired p = {p:.2g}); {len(linked)} tokens.",
    )  # fmt: skip


def weighted_life(scans: Scans, tracks: Tracks) -> float:
    """Mean number of layers at which a track is seen, over its nodes, weighted by their activation; 0 without nodes."""
    _, n_layers, k = scans.latents.shape
    active = scans.active
    code = np.nonzero(active)[0] * (n_layers * k) + tracks.track[active]
    _, owner, life = np.unique(code, return_inverse=True, return_counts=True)
    weight = scans.activations[active]
    return float(np.average(life[owner.ravel()], weights=weight)) if len(weight) else 0.0


def permuted(decoders: Sequence[Tensor], seed: int) -> list[Tensor]:
    """The same directions, dealt to the latents at random, at each layer by itself."""
    random = np.random.default_rng(seed)
    return [decoder[torch.from_numpy(random.permutation(len(decoder)))] for decoder in decoders]


def judge_life(life: float, permuted_life: float, depth: int) -> Verdict:
    """Where there are fewer than ten layers, half of them is the ratio that is asked for."""
    ratio, least = life / max(permuted_life, 1e-12), min(LEAST_LIFE_RATIO, depth / 2)
    long_enough = depth < DEEP or life >= LEAST_LIFE
    asked = f", and {LEAST_LIFE:g} layers" if depth >= DEEP else ""
    return Verdict(
        "Do tracks last, and only where directions are shared?", bool(ratio >= least and long_enough),
        f"The activation-weighted mean life of a track is {life:.2f} of {depth} layers, and {permuted_life:.2f} where the "
        f"rows of the decoders were permuted, {ratio:.1f} times less; at least {least:g} times{asked} is asked for.",
    )  # fmt: skip


@dataclass(frozen=True)
class LinkTrials:
    """Links to be tested by intervention, [n] each. token: which of the chosen tokens; layer: place of the earlier
    latent's layer; source, target: latents at it and at the next; control: the latent active at the source's layer and
    token whose activation is nearest to the source's, and which the target does not continue. *_activation: float32."""

    token: Ints
    layer: Ints
    source: Ints
    target: Ints
    control: Ints
    source_activation: Singles
    control_activation: Singles
    posterior: Singles


def sample_links(scans: Scans, tracks: Tracks, chosen: Ints, seed: int) -> LinkTrials:
    """At each chosen problem and each pair of tracked layers that follow each other, one link at random.

    chosen: int64, rows of the scans.
    """
    random = np.random.default_rng(seed)
    k = scans.latents.shape[2]
    columns: list[tuple[Any, ...]] = []
    for layer in range(1, scans.latents.shape[1]):
        for number, one in enumerate(chosen.tolist()):
            linked = np.flatnonzero(tracks.previous[one, layer] >= (layer - 1) * k)
            if not len(linked):
                continue
            target = int(random.choice(linked))
            source = int(tracks.previous[one, layer, target]) - (layer - 1) * k
            here = scans.activations[one, layer - 1]
            distance = np.abs(np.log(np.maximum(here, 1e-12)) - np.log(here[source]))
            distance[(here <= 0) | (np.arange(k) == source)] = np.inf
            control = int(distance.argmin())
            if np.isfinite(distance[control]):
                before, after = scans.latents[one, layer - 1], scans.latents[one, layer]
                latents = before[source], after[target], before[control]
                strength = here[source], here[control], tracks.posterior[one, layer, target]
                columns.append((number, layer - 1, *latents, *strength))
    kinds = (np.int64,) * 5 + (np.float32,) * 3
    values = list(zip(*columns, strict=True)) if columns else [()] * len(kinds)
    return LinkTrials(*(np.array(one, dtype=kind) for one, kind in zip(values, kinds, strict=True)))


class Drops(NamedTuple):
    """What of the target's activation goes when a latent is taken out at the token: 1 all of it, negative where it grows.
    linked: the one it is linked to; control: the other. [n] each, float64."""

    linked: Floats
    control: Floats


@torch.inference_mode()
def ablate(
    model: LanguageModel,
    text: HeldOutText,
    row: Ints,
    column: Ints,
    saes: Sequence[JumpReLUSAE],
    layers: Sequence[int],
    links: LinkTrials,
    tokens_at_a_time: int,
) -> Drops:
    """Take latents out of block outputs, activation · decoder less at one token, and read the next tracked block's output.

    row, column: [n_tokens], where in the text the chosen tokens are.
    """
    drops = Drops(np.zeros(len(links.token)), np.zeros(len(links.token)))
    for start in range(0, len(row), tokens_at_a_time):
        part = slice(start, start + tokens_at_a_time)
        token, position, last = _contexts(text, row[part], column[part])
        token, position = token.to(model.device), position.to(model.device)
        states: dict[int, Tensor] = {}
        model.read_blocks(token, position, layers, states.__setitem__)
        mine = (links.token >= start) & (links.token < start + tokens_at_a_time)
        for place in np.unique(links.layer[mine]).tolist():
            which = np.flatnonzero(mine & (links.layer == place))
            rows, (layer, after) = torch.from_numpy(links.token[which] - start), layers[place : place + 2]
            at = torch.arange(len(which)), last[rows]
            target = at[0], torch.from_numpy(links.target[which])
            clean = saes[place + 1].encode(states[after][rows][at].float().cpu())[target].double().numpy()
            for drop, latent, activation in (
                (drops.linked, links.source, links.source_activation),
                (drops.control, links.control, links.control_activation),
            ):
                decoder = saes[place].W_dec[torch.from_numpy(latent[which])]
                taken = torch.from_numpy(activation[which])[:, None] * decoder / saes[place].scale
                changed = states[layer][rows].clone()
                changed[at] -= taken.to(changed)
                reached: dict[int, Tensor] = {}
                with model.going_on_after(layer, changed):
                    model.read_blocks(token[rows], position[rows], [after], reached.__setitem__)
                left = saes[place + 1].encode(reached[after][at].float().cpu())[target].double().numpy()
                drop[which] = 1 - left / np.maximum(clean, 1e-12)
    return drops


def _contexts(text: HeldOutText, row: Ints, column: Ints) -> tuple[Tensor, Tensor, Tensor]:
    """Each token with what it sees of its segment, alone: tokens and positions [n, length], and the token's place [n].

    Padding on the right is a segment of its own.
    """
    last = text.position[torch.from_numpy(row), torch.from_numpy(column)]
    places = zip(row.tolist(), column.tolist(), last.tolist(), strict=True)
    token = [text.token[one, end - before : end + 1] for one, end, before in places]
    position = [torch.arange(len(tokens)) for tokens in token]
    return pad_sequence(token, batch_first=True), pad_sequence(position, batch_first=True), last


def judge_causes(drops: Drops, token: Ints) -> Verdict:
    """Paired over tokens, since the links of one token hang together. token: [n_links]."""
    question = "Are links causal?"
    numbers, owner = np.unique(token, return_inverse=True)
    if len(numbers) < LEAST_PROBLEMS:
        few = f"There were links to test at {len(numbers)} tokens only, too few to tell."
        return Verdict(question, None, few)
    linked, control = (np.bincount(owner, values) / np.bincount(owner) for values in drops)
    p, precision = less(-linked, -control), float((drops.linked > drops.control).mean())
    return Verdict(
        question, p < SIGNIFICANT and precision > 0.5,
        f"Taking a latent out lowers the one it is linked to at the next layer by {drops.linked.mean():.0%} of its "
        f"activation, and taking out another of the same strength lowers that same latent by {drops.control.mean():.0%} "
        f"(one-sided p = {p:.2g}, paired over {len(numbers)} tokens); the link's drop is the larger in {precision:.1%} of "
        f"{len(token)} links.",
    )  # fmt: skip


def less(first: Floats, second: Floats) -> float:
    """One-sided p of Wilcoxon's signed-rank test that first is less than second; 1 where they are the same."""
    if np.array_equal(first, second):
        return 1.0
    return float(stats.wilcoxon(first, second, alternative="less").pvalue)
