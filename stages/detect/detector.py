"""A detector to keep: fit it, score answers that nobody labelled, say why, and store it without pickle.

    detector = keep(fit_side(data, labels, fold), data.of(fold.train), provenance, ids, groups, seed)
    probability = detector.score(data)              # of answers of the same model, read by the same SAEs
    reasons = detector.explain(data)
    save(detector, folder / JSON_FILE, folder / ARRAY_FILE)
    detector = load(folder)

What it was fitted on is part of it: `require` refuses answers of another model or latents of other SAEs.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.errors import CorruptInputError, LabelError, ModelMismatchError
from ghosttrack.common.foreign import read_arrays, whole
from ghosttrack.common.formats.detector import DETECTOR, DETECTOR_ARRAYS
from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.common.maths.calibration import Platt, fit_platt
from ghosttrack.common.maths.metrics import best_f1_threshold
from ghosttrack.stages.detect.anchored import Anchored, Novelty, fit_anchored, fit_novelty, known
from ghosttrack.stages.detect.columns import Columns, Experts
from ghosttrack.stages.detect.crossval import Side
from ghosttrack.stages.detect.evidence import Data
from ghosttrack.stages.detect.explain import Reason, Reference, reasons, reference_of
from ghosttrack.stages.detect.familiarity import FALSE_ALARMS, Familiarity, fit_familiarity
from ghosttrack.stages.detect.features.contexts import ANCHOR
from ghosttrack.stages.detect.fitted.habits import Habits
from ghosttrack.stages.detect.fitted.latents import LatentProbe
from ghosttrack.stages.detect.fitted.linear import Additive, Linear, fit_logistic
from ghosttrack.stages.detect.fitted.probes import Probes
from ghosttrack.stages.detect.methods import MAIN, TRAINED
from ghosttrack.stages.detect.store import flatten, unflatten
from ghosttrack.stages.detect.token_risk import TokenRisk, fit_token_risk

VERSION = 11
BASELINE = "logits.improbability"


@dataclass(frozen=True)
class Detector:
    version: int
    provenance: dict[str, str]
    """Digests of what it was fitted on: `model` and `saes`."""
    layers: list[int]
    signals: list[str]
    """Of the trained part."""
    experts: Experts
    model: Additive
    one_prompt: Additive
    """The trained score without contexts: what they are held against on other data."""
    anchored: Anchored | None
    novelty: Novelty | None
    relations: dict[str, int]
    """Training answers of each."""
    platt: Platt
    threshold: float
    """On the calibrated probability: at or above it, an answer is called wrong."""
    reference: Reference
    familiarity: Familiarity
    baseline: Platt
    """Of how improbable the answer is: what is left to say where a question is unfamiliar. Bounded, and long answers do not pay."""
    token_risk: TokenRisk
    forms: list[str]
    """Of the prompts that it was fitted on."""

    def require(self, provenance: dict[str, str]) -> None:
        """Raises ModelMismatchError unless the answers come from the model and SAEs that this was fitted on."""
        for what, name in (("model", "the model"), ("saes", "the SAEs")):
            if self.provenance[what] != provenance[what]:
                raise ModelMismatchError(
                    f"the detector was fitted on other files of {name} ({self.provenance[what][:12]}) than these answers come "
                    f"from ({provenance[what][:12]}); use the detector of the same configuration, or run detect on these answers"
                )

    def columns(self, data: Data) -> Columns:
        if data.layers != self.layers:
            raise ModelMismatchError(
                f"the detector reads layers {self.layers}, the answers were read at {data.layers}; set model.layers alike"
            )
        if self.anchored is not None and "contexts" not in data.tables:
            raise ModelMismatchError(
                "the detector was fitted with answers read in other contexts, which these were not; set tracking.contexts "
                "alike"
            )
        return self.experts.columns(data)

    def raw_score(self, data: Data, columns: Columns) -> Floats:
        """The score before calibration, [n]."""
        values = columns.of(self.signals)
        trained = self.model.score(values)
        if self.anchored is None or self.novelty is None:
            return trained
        share = known([item.relation for item in data.asked], self.relations)
        return self.anchored.score(columns.column(ANCHOR), trained, share, self.novelty.weight(values))

    def score(self, data: Data) -> Floats:
        """Calibrated probability that each answer is wrong, [n]; of one unlike those that it was fitted on as that of the last of them."""
        return self.platt.bounded(self.raw_score(data, self.columns(data)))

    def explain(self, data: Data) -> list[Reason]:
        """The probability and why, a record a question; see `explain.reasons`."""
        if not data.asked:
            return []  # new questions may all be left out
        columns = self.columns(data)
        probability = self.platt.bounded(self.raw_score(data, columns))
        found = reasons(self.reference, columns.of(self.signals), probability)
        familiar = self.familiarity.p_value(data.states)
        baseline = self.baseline.bounded(columns.column(BASELINE))
        risks = (self.token_risk(asked.logprobs, asked.entropies) for asked in data.asked)
        return [
            {
                "probability": float(probability[row]),
                "familiarity": round(float(familiar[row]), 4),
                "unfamiliar": bool(familiar[row] <= FALSE_ALARMS),
                "form": asked.form,
                "other_form": asked.form not in self.forms,
                "baseline": round(float(baseline[row]), 4),
                "token_risks": [round(float(risk), 4) for risk in own],
                **reason,
            }
            for row, (asked, reason, own) in enumerate(zip(data.asked, found, risks, strict=True))
        ]


def keep(
    side: Side, data: Data, provenance: dict[str, str], ids: list[str], groups: Ints, seed: int
) -> Detector:
    """The main detector of a training side, to be kept. data, ids, groups: of its rows."""
    signals = side.signals_of(TRAINED)
    values, labels = side.train.of(signals), side.labels
    model, held_out = side.trained
    one_prompt, anchored, novelty = model, None, None
    if "contexts" in signals:
        one_prompt = fit_logistic(side.train.of(side.signals_of(MAIN)), labels)
        anchor = side.train.column(ANCHOR)
        anchored, novelty = fit_anchored(anchor, held_out), fit_novelty(values, side.inner)
        held_out = anchored.score(anchor, held_out, side.known)
    platt = fit_platt(held_out, labels)
    told = [asked.logprobs for asked in data.asked], [asked.entropies for asked in data.asked]
    return Detector(
        version=VERSION,
        provenance=provenance,
        layers=data.layers,
        signals=signals,
        experts=side.experts,
        model=model,
        one_prompt=one_prompt,
        anchored=anchored,
        novelty=novelty,
        relations=side.relations,
        platt=platt,
        threshold=best_f1_threshold(labels, platt(held_out)),
        reference=reference_of(side, held_out, ids),
        familiarity=fit_familiarity(data.states, groups, seed),
        baseline=fit_platt(side.train.column(BASELINE), labels),
        token_risk=fit_token_risk(*told, labels),
        forms=sorted({asked.form for asked in data.asked}),
    )


_STORED = (Detector, Experts, Probes, Linear, Habits, LatentProbe, Additive, Anchored, Novelty, Platt, Reference,
           Familiarity, TokenRisk)  # fmt: skip
_TYPES: dict[str, Any] = {each.__name__: each for each in _STORED}


def save_none(why: str, json_path: Path, array_path: Path) -> None:
    """The two files where nothing could be fitted; `load` says why."""
    DETECTOR.write(json_path, {"version": VERSION, "undefined": why})
    zipfile.ZipFile(array_path, "w").close()


def save(detector: Detector, json_path: Path, array_path: Path) -> None:
    """Two files: what it is, as JSON, and its arrays (.npz), the same bytes for the same detector wherever it is saved.

    Not `np.savez`, whose archive tells the version of Python; not compressed, which no two builds of zlib do alike.
    """
    arrays: dict[str, NDArray[Any]] = {}
    content = flatten(detector, arrays)
    with zipfile.ZipFile(array_path, "w") as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    DETECTOR.write(json_path, content)


def load(folder: Path) -> Detector:
    """The detector of a folder. Raises CorruptInputError for files that are missing, damaged or of another version,
    LabelError where there was nothing to fit one on."""
    path = folder / DETECTOR.name
    content, array_path = DETECTOR.read(path), folder / DETECTOR_ARRAYS.name
    with whole(array_path, "run detect again", "detector"):
        arrays = read_arrays(array_path)
    if content.get("version") != VERSION:
        found = content.get("version")
        raise CorruptInputError(f"{path} has version {found}, not {VERSION}; run detect again")
    if why := content.get("undefined"):
        raise LabelError(f"{path}: no detector could be fitted: {why}")
    detector: Detector = unflatten(content, arrays, _TYPES)
    return detector
