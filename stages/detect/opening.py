"""A run's answers and tracks as detection reads them, from a stage's inputs. In Python, `ghosttrack.open` opens a run."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.storage import Entry
from ghosttrack.common.formats.answers import GENERATIONS, Answer, read_answers
from ghosttrack.common.formats.saes import SAE, SAE_METRICS, trained_as
from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.detect.evidence import Data
from ghosttrack.stages.detect.protocol.exclusions import exclusions
from ghosttrack.stages.detect.protocol.folds import check_classes
from ghosttrack.stages.detect.protocol.groups import question_groups, refuse_conflicts
from ghosttrack.stages.detect.protocol.splits import LabelledRows, SplitFolds, all_splits
from ghosttrack.stages.detect.reading import complete, read_data

Entries = Mapping[str, Entry]


@dataclass(frozen=True)
class OpenedRun:
    """n answered questions, in the order of generations.jsonl."""

    answers: list[Answer]
    data: Data
    leader: Floats  # [n, 4, n_layers] rank of the leading candidate by place and layer
    excluded: list[str | None]  # why a question is left out
    groups: Ints  # [n]
    labels: Floats  # [n] 1 wrong, 0 right, NaN left out
    provenance: dict[str, str]  # digests of the model and the SAEs

    @property
    def ids(self) -> list[str]:
        return [answer.id for answer in self.answers]

    @property
    def rows(self) -> LabelledRows:
        """The labelled questions as the protocol divides them."""
        kept = np.flatnonzero(~np.isnan(self.labels))
        relation, said, text = (
            np.unique(values, return_inverse=True)[1][kept]
            for values in (
                [answer.relation for answer in self.answers],
                [item.said for item in self.data.asked],
                [normalise(answer.question) for answer in self.answers],
            )
        )
        return LabelledRows(kept, self.labels[kept].astype(np.int64), self.groups[kept], relation, said, text)


def read_run(
    entries: Entries, config: Config, on_piece: Callable[[], None] = lambda: None, room: Path | None = None
) -> OpenedRun:
    """The published answers and tracks. room: a file to keep states in, which may be too many for memory. Raises
    LabelError, DataError for answers that contradict each other or lack features without a reason."""
    answers = read_answers(entries["track/answers"].file(GENERATIONS.name))
    refuse_conflicts(answers)
    files = files_of(entries, "track/answers", "track/contexts", "track/all", "track/independent")
    rungs = config.tracking.ladder
    data, leader = read_data(files, answers, config.layers, config.sae.d_hidden, rungs, on_piece, room)
    excluded = exclusions(answers, complete(data))
    labels = np.array(
        [np.nan if a.label is None or why else a.label for a, why in zip(answers, excluded, strict=True)]
    )
    return OpenedRun(
        answers, data, leader, excluded, question_groups(answers), labels,
        provenance(entries, "track/answers", "track/all"),
    )  # fmt: skip


def splits_of(run: OpenedRun, config: Config) -> list[SplitFolds]:
    """The run's protocol. Raises LabelError, DataError where its rows cannot be divided."""
    rows = run.rows
    check_classes(rows.label, config.detection.folds)
    return all_splits(rows, config.detection, config.seed)


def files_of(entries: Entries, *units: str) -> dict[str, Path]:
    """All files of these units, those that there are, by name."""
    return {file.name: file for unit in units if unit in entries for file in entries[unit].path.iterdir()}


def provenance(entries: Entries, answers: str, tracks: str) -> dict[str, str]:
    """Digests of the model and of the SAEs behind the inputs, by which a stored detector knows its own.

    answers, tracks: the units that the inputs come from. A SAE that was exported and imported again counts as the trained one.
    """
    saes = _inputs(entries[tracks], "sae_train/")
    for unit, entry in entries.items():
        prefix, _, layer = unit.partition("layer_")
        if prefix == "sae_train/" and (first := trained_as(entry.file(SAE_METRICS.of(layer).name))):
            saes[f"{unit}/{SAE.of(layer)}"] = first
    return {"model": _digest_of(_inputs(entries[answers], "prepare/model/")), "saes": _digest_of(saes)}


def _inputs(entry: Entry, prefix: str) -> dict[str, str]:
    return {name: digest for name, digest in entry.manifest.input_digests.items() if name.startswith(prefix)}


def _digest_of(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(
        "\n".join(sorted(f"{name} {digest}" for name, digest in digests.items())).encode()
    ).hexdigest()
