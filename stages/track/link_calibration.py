"""Whether posteriors mean what they say: of links of 70 %, are 70 % right? In planted scenes, where it is known which detections
are of one feature; and whether links of higher posterior carry more when their source is taken out of the model.

The expected calibration error of few links is large even where posteriors are exact, for a bin's share strays from its mean. What it
would be by that alone stands beside it, and the error less its bias (Kumar, Liang and Ma 2019, arXiv:1909.10155).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ghosttrack.common.maths.arrays import Bools, Floats, Ints, Singles
from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.scenes import Scene
from ghosttrack.stages.track.validation import LEAST_PROBLEMS, Verdict

EDGES = np.linspace(0, 1, 11)
DOUBTFUL = slice(1, 9)
"""Bins of 10 % to 90 %: most links are all but certain, and would hide how the others stand."""
LARGEST_ERROR = 0.05
"""Mean distance of share and posterior of doubtful links, less its bias, that passes."""
DRAWS = 300


class Judged(NamedTuple):
    """A row a link. problem: int64; posterior; right: whether both ends are of one planted feature."""

    problem: Ints
    posterior: Floats
    right: Bools

    @classmethod
    def joined(cls, parts: Sequence["Judged"]) -> "Judged":
        """Of several scenes; their problems are counted on."""
        start = np.cumsum([0, *(int(part.problem.max(initial=-1)) + 1 for part in parts)])
        problem = np.concatenate([part.problem + at for part, at in zip(parts, start[:-1], strict=True)])
        return cls(problem, *(np.concatenate([part[i] for part in parts]) for i in (1, 2)))


def judged(scene: Scene, tracks: Tracks) -> Judged:
    """Every link of a scene. Clutter is of no feature, so no link from or to it is right."""
    n_problems, n_layers, k = scene.scans.latents.shape
    owner = np.full((n_problems, n_layers * k), -1)
    for number, layers in enumerate(scene.truth):
        for place, there in enumerate(layers):
            active = scene.scans.activations[number, place] > 0
            path = scene.path_of[place][scene.scans.latents[number, place]]
            owner[number, place * k : (place + 1) * k] = np.where(
                active & np.isin(path, there.numbers), path, -1
            )
    problem, layer, rank = np.nonzero(tracks.previous >= 0)
    before = owner[problem, tracks.previous[problem, layer, rank]]
    right = (before >= 0) & (before == owner[problem, layer * k + rank])
    return Judged(problem, tracks.posterior[problem, layer, rank].astype(np.float64), right)


def reliability(found: Judged, seed: int) -> dict[str, Any]:
    """`links, error` (expected calibration error: mean distance of share and posterior over the bins, weighted by links, with a
    95 % interval over problems), `doubtful_links, doubtful_error` (the same of the bins of 10 % to 90 %), `doubtful_by_chance` (what
    it is on average if posteriors are exact), `doubtful_debiased` (less its bias; basic bootstrap interval, as resampling adds
    the bias once more), `bins`: `low, high, links, posterior, right`, those without links left out."""
    place = np.clip(np.digitize(found.posterior, EDGES) - 1, 0, len(EDGES) - 2)
    n_bins, n_problems = len(EDGES) - 1, int(found.problem.max(initial=-1)) + 1
    sums = np.zeros((3, n_problems, n_bins))
    for row, values in enumerate((np.ones(len(place)), found.posterior, found.right.astype(np.float64))):
        np.add.at(sums[row], (found.problem, place), values)
    total = sums.sum(1)
    draws = np.random.default_rng(seed).integers(max(n_problems, 1), size=(DRAWS, n_problems))

    def with_interval(bins: slice, measure: Callable[[Floats], float] = _error) -> list[float]:
        drawn = [measure(sums[:, chosen, bins].sum(1)) for chosen in draws]
        return np.round([measure(total[:, bins]), *np.percentile(drawn, [2.5, 97.5])], 4).tolist()

    doubtful = int(total[0, DOUBTFUL].sum())
    exact = np.bincount(place, found.posterior * (1 - found.posterior), minlength=n_bins)[DOUBTFUL]
    debiased, lowest, highest = with_interval(DOUBTFUL, _debiased)
    basic = np.clip([debiased, 2 * debiased - highest, 2 * debiased - lowest], 0, 1)
    bins = zip(EDGES.tolist(), EDGES[1:].tolist(), *total.tolist(), strict=False)
    return {
        "links": len(place),
        "error": with_interval(slice(None)),
        "doubtful_links": doubtful,
        "doubtful_error": with_interval(DOUBTFUL),
        "doubtful_by_chance": round(float(np.sqrt(2 / np.pi * exact).sum()) / max(doubtful, 1), 4),
        "doubtful_debiased": np.round(basic, 4).tolist(),
        "bins": [
            {"low": round(low, 2), "high": round(high, 2), "links": int(links)}
            | {"posterior": round(posterior / links, 4), "right": round(right / links, 4)}
            for low, high, links, posterior, right in bins
            if links
        ],
    }


def _error(sums: Floats) -> float:
    """sums: [3, bins] links, their posteriors, right ones."""
    return float(np.abs(sums[1] - sums[2]).sum() / max(sums[0].sum(), 1))


def _debiased(sums: Floats) -> float:
    """`_error` less what it would grow by if right ones were drawn anew as they are: the mean of |normal| less |its mean|."""
    links, posterior, right = sums[:, sums[0] > 0]
    distance = np.abs(posterior - right)
    spread = np.sqrt(np.maximum(right * (1 - right / links), 1e-12))
    return float(
        (2 * distance - stats.foldnorm.mean(distance / spread, scale=spread)).sum() / max(links.sum(), 1)
    )


def judge(found: dict[str, Any], associator: str) -> Verdict:
    """Whether links are right as often as their posteriors say. found: `reliability` of the associator that the run
    uses."""
    question = "Are links of 70 % right 70 % of the time?"
    if found["doubtful_links"] < LEAST_PROBLEMS:
        return Verdict(question, None, f"{found['doubtful_links']} links were doubtful, too few to tell.")
    error, low, high = found["doubtful_debiased"]
    near = min(found["bins"], key=lambda each: abs(each["posterior"] - 0.7))
    return Verdict(
        question, error <= LARGEST_ERROR,
        f"In planted scenes, whose tracks are known, posterior and share of right links differ in the mean by {error:.3f} "
        f"[{low:.3f}, {high:.3f}] over the {found['doubtful_links']:,} links of 10 % to 90 % (at most {LARGEST_ERROR:g} is asked for; "
        f"association by {associator}; {found['doubtful_error'][0]:.3f} before its bias is taken off, exact posteriors would have "
        f"{found['doubtful_by_chance']:.3f}), and by {found['error'][0]:.3f} over all {found['links']:,}; of the {near['links']:,} links of "
        f"{near['low']:.0%} to {near['high']:.0%}, {near['right']:.0%} are right.",
    )  # fmt: skip


def by_posterior(posterior: Singles, linked: Floats, control: Floats) -> list[dict[str, Any]]:
    """Links of the model's own text in thirds by posterior: `links, posterior, drop_linked, drop_control, stronger` (share of
    links whose target falls more than with the control)."""
    thirds = np.array_split(np.argsort(posterior, kind="stable"), 3)
    return [
        {
            "links": len(rows),
            "posterior": _mean(posterior[rows]),
            "drop_linked": _mean(linked[rows]),
            "drop_control": _mean(control[rows]),
            "stronger": _mean(linked[rows] > control[rows]),
        }
        for rows in thirds
        if len(rows)
    ]


def _mean(values: Any) -> float:
    return round(float(values.mean()), 4)
