"""From signals to the columns that a detector weighs: stacking (Wolpert 1992).

A signal of hundreds of features or states is first made a few columns by a fit of its own; the column of a training row
comes from a fit that had not seen its inner fold, so that the model on top learns how far each signal can be trusted on
new questions. Signals of a handful of features are columns as they stand.
"""

from dataclasses import dataclass, replace

import numpy as np

from ghosttrack.common.errors import ModelMismatchError
from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.evidence import PLACES, Data
from ghosttrack.stages.detect.fitted import habits as habit_counts
from ghosttrack.stages.detect.fitted.habits import Habits, fit_habits
from ghosttrack.stages.detect.fitted.latents import LatentProbe, fit_latents
from ghosttrack.stages.detect.fitted.linear import Linear, fit_linear
from ghosttrack.stages.detect.fitted.probes import Probes, fit_probes, place_means

RAW = {"text", "logits", "samples", "contexts"}
"""Signals whose features are columns themselves, beside their score."""


@dataclass(frozen=True)
class Columns:
    """Columns of n rows, with the signal that each belongs to."""

    values: Floats  # [n, n_columns]
    names: list[str]
    signals: list[str]

    def of(self, wanted: list[str]) -> Floats:
        """The columns of these signals, [n, k]."""
        return self.values[:, self.where(wanted)]

    def where(self, wanted: list[str]) -> Ints:
        return np.flatnonzero(np.isin(self.signals, wanted))

    def column(self, name: str) -> Floats:
        return self.values[:, self.names.index(name)]

    def dealt(self, signal: str, order: Ints) -> "Columns":
        """Every row with this signal's columns of row order[row]. order: [n]."""
        own = self.where([signal])
        values = self.values.copy()
        values[:, own] = self.values[np.ix_(order, own)]
        return replace(self, values=values)


@dataclass(frozen=True)
class Experts:
    """The fits of one training side, from which the columns of any question follow."""

    probes: Probes
    ensemble: Linear  # of the probes' scores
    habits: Habits
    scores: dict[str, Linear]  # signal → ridge regression on its table
    latents: LatentProbe

    def columns(self, data: Data) -> Columns:
        """The columns of all questions of `data`. Raises ModelMismatchError where a signal that was fitted is missing."""
        if missing := sorted(self.scores.keys() - data.tables.keys()):
            raise ModelMismatchError(
                f"the detector was fitted with {', '.join(missing)}, which these answers do not have; "
                "set detection.samples and tracking.contexts alike"
            )
        cells = self.probes.score(data.states)
        scores = {name: fitted.score(data.tables[name].values) for name, fitted in self.scores.items()}
        habits = self.habits.columns(data.asked, data.tokens, data.logprobs)
        scores["latents"] = self.latents.score(data.latents)
        return self._assemble(data, cells, self.ensemble.score(cells), habits, scores)

    def _assemble(
        self, data: Data, cells: Singles, ensemble: Floats, habits: Floats, scores: dict[str, Floats]
    ) -> Columns:
        values: list[Floats] = []
        names: list[str] = []
        signals: list[str] = []

        def add(signal: str, block: Floats, own: list[str]) -> None:
            values.append(block.reshape(len(data), -1))
            names.extend(own)
            signals.extend([signal] * len(own))

        add("probe", place_means(cells, len(data.layers)), [f"probe.{place}.mean" for place in PLACES])
        add("probe", cells[:, self.probes.best].astype(np.float64), ["probe.best"])
        add("probe", ensemble, ["probe.ensemble"])
        add("habits", habits, [f"habits.{name}" for name in habit_counts.NAMES])
        for name, score in scores.items():
            add(name, score, [f"{name}.score"])
        for name in sorted(RAW & set(data.tables)):
            add(name, data.tables[name].values.astype(np.float64, copy=False), data.tables[name].names)
        return Columns(np.concatenate(values, axis=1), names, signals)


def fit_experts(
    data: Data, labels: Floats, inner: Ints, tables: list[str]
) -> tuple[Experts, Columns, Singles]:
    """The experts of one training side, the held-out columns of its rows, and the probes' held-out scores [n, n_cells].

    data: of the training rows; labels, inner: [n]. tables: signals scored by a ridge regression.
    """
    probes, cells = fit_probes(data.states, labels, inner)
    ensemble, ensemble_scores = fit_linear(cells, labels, inner)
    habits, habit_columns = fit_habits(data.asked, data.tokens, data.logprobs, labels, inner)
    linear = {name: fit_linear(data.tables[name].values, labels, inner) for name in tables}
    latents, latent_scores = fit_latents(data.latents, labels, inner)
    fitted = {name: fit for name, (fit, _) in linear.items()}
    scores = {name: held_out for name, (_, held_out) in linear.items()} | {"latents": latent_scores}
    experts = Experts(probes, ensemble, habits, fitted, latents)
    return experts, experts._assemble(data, cells, ensemble_scores, habit_columns, scores), cells
