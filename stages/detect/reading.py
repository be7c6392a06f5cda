"""The files of the tracking phase as `Data`: the edge between the store and the functions on arrays."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.answer_states import ANSWER_STATES
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.ladder import LADDER, columns_of
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.tracks import INDEPENDENT, TRACKS
from ghosttrack.common.maths.arrays import Bools, Floats, Ints
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.detect.evidence import (
    PLACES,
    AnsweredQuestion,
    Data,
    FeatureTable,
    by_place,
    first_candidates,
    joined,
    states_by_place,
)
from ghosttrack.stages.detect.features.competition import COMPETITION, layer_features, lead_changes
from ghosttrack.stages.detect.features.contexts import context_features
from ghosttrack.stages.detect.features.lens import COLUMNS as LENS_COLUMNS
from ghosttrack.stages.detect.features.lens import lens_features
from ghosttrack.stages.detect.features.tokens import sample_features, token_features
from ghosttrack.stages.detect.features.tracks import question_features
from ghosttrack.stages.detect.features.words import surface_features

Columns = dict[str, NDArray[Any]]
Files = Mapping[str, Path]
Item = TypeVar("Item")
Made = TypeVar("Made")
NODE_COLUMNS = ("question", "position", "layer", "latent", "activation", "track", "link", "effect")
THREADS = 2
MEND = "run track again"


def read_data(
    files: Files,
    answers: Sequence[Answer],
    layers: list[int],
    d_hidden: int,
    rungs: Sequence[str] = (),
    on_piece: Callable[[], None] = lambda: None,
    room: Path | None = None,
) -> tuple[Data, Floats]:
    """All that the fits may see, and the leading candidate by place and layer, [n, 4, n_layers]. files: of the tracking phase, by
    name; rungs: the associations to compare; room: a file to keep states in that may be too many for memory; tables that are
    read by ridge regressions alone are float32, as these are.

    Raises CorruptInputError for files that cannot be read or contradict the answers, NumericError for NaN or Inf.
    """
    n = len(answers)
    asked = [AnsweredQuestion.of(answer) for answer in answers]
    tokens, logprobs = first_candidates(CANDIDATES.frame(files[CANDIDATES.name]), n)
    wanted = [*COMPETITION, "error", "leader"]
    table = LAYERS.frame(files[LAYERS.name], ["question", "position", "layer", *wanted])
    curves = by_place(table, LAYERS.name, wanted, n, layers, np.float64)
    leader, silent = curves.pop("leader"), (curves["n_active"] == 0).any(axis=2)
    error = {"fvu": np.log(np.maximum(curves.pop("error"), 1e-9))}
    table = LENS.frame(files[LENS.name], ["question", "position", "layer", *LENS_COLUMNS])
    lens = by_place(table, LENS.name, LENS_COLUMNS, n, layers, np.float32)
    last = np.array([len(answer.tokens) for answer in answers], dtype=np.int64)
    tables = {
        "text": surface_features(asked),
        "logits": token_features(asked, logprobs),
        "lens": lens_features(lens, layers).narrow(),
        "error": layer_features(error, "error", layers).narrow(),
        "competition": joined([layer_features(curves, "competition", layers), lead_changes(leader)]).narrow(),
    }
    if any(item.samples for item in asked):
        tables["samples"] = sample_features(asked, [[normalise(s) for s in item.samples] for item in asked])
    evidence = EVIDENCE.read(files[EVIDENCE.name], [name for name in EVIDENCE.names if name != "text"])
    if (evidence["context"] > 0).any():  # tracking.contexts may be 0
        tables["contexts"] = context_features(evidence, n)
    found, latents = _track_tables(files, last, layers, d_hidden, rungs, on_piece)
    tables |= {name: _filled(table, silent) for name, table in found.items()}
    owner = POSITIONS.read(files[POSITIONS.name])
    question, position = (owner[name].astype(np.int64) for name in ("question", "position"))
    states = states_by_place(question, position, files[ANSWER_STATES.name], n, room)
    return Data(asked, layers, tables, states, latents, tokens, logprobs), leader


def _filled(table: FeatureTable, silent: Bools) -> FeatureTable:
    """Features of tracks, made 0 where a layer has none to tell of because no latent is active. silent: [n, 4] question and place."""
    values = table.values
    for number, place in enumerate(PLACES):
        if place == "subject":
            continue  # it may be absent, and is taken as usual then
        own = [column for column, name in enumerate(table.names) if f".{place}." in name]
        missing = silent[:, number, None] & np.isnan(values[:, own])
        values[:, own] = np.where(missing, 0.0, values[:, own])
    return FeatureTable(values, table.names)


def complete(data: Data) -> Bools:
    """[n] whether a question has every feature of prompt and answer; a subject may be absent from a prompt."""
    result = np.ones(len(data), dtype=bool)
    for table in data.tables.values():
        needed = [number for number, name in enumerate(table.names) if ".subject." not in name]
        result &= np.isfinite(table.values[:, needed]).all(axis=1)
    return result


def _track_tables(
    files: Files,
    last: Ints,
    layers: list[int],
    d_hidden: int,
    rungs: Sequence[str],
    on_piece: Callable[[], None],
) -> tuple[dict[str, FeatureTable], csr_matrix]:
    """Track features by signal and rung, and the latents at the last answer token."""
    n, tracks, ladder = len(last), files[TRACKS.name], files.get(LADDER.name)
    if rungs and ladder and _row_counts(tracks) != _row_counts(ladder):
        raise CorruptInputError(f"{ladder} has other rows than {tracks}; run track again")
    names: dict[str, str | None] = {"tracks": None, **{f"rung/{rung}": rung for rung in rungs}}

    def piece(groups: list[int]) -> tuple[int, dict[str, FeatureTable], csr_matrix]:
        own = _row_groups(tracks, groups, NODE_COLUMNS)
        others = _row_groups(ladder, groups, columns_of(rungs)) if rungs and ladder else {}
        first, local = _at_places({**own, **others}, last, tracks)
        found = {name: _features(local, layers, rung) for name, rung in names.items()}
        on_piece()
        return first, found, _latents(local, last[first:], layers, d_hidden)

    tables: dict[str, FeatureTable] = {}

    def put(name: str, first: int, own: FeatureTable) -> None:
        if name not in tables:
            tables[name] = FeatureTable(np.full((n, len(own.names)), np.nan, np.float32), own.names)
        tables[name].values[first : first + len(own.values)] = own.values

    active: list[csr_matrix] = []
    known = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for first, found, latents in _in_order(pool, piece, pieces_of(tracks)):
            for name, own in found.items():
                put(name, first, own)
            active += [csr_matrix((first - known, latents.shape[1]), dtype=np.float32), latents]
            known = first + latents.shape[0]
    if twins := files.get(INDEPENDENT.name):
        for groups in pieces_of(twins):
            first, local = _at_places(_row_groups(twins, groups, NODE_COLUMNS), last, twins)
            put("rung/independent", first, _features(local, layers))
    return tables, vstack([*active, csr_matrix((n - known, active[0].shape[1]), dtype=np.float32)], "csr")


def _features(local: Columns, layers: list[int], rung: str | None = None) -> FeatureTable:
    return question_features(local, int(local["question"].max()) + 1, layers, rung)


def _in_order(pool: Executor, do: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """What comes of each item, in their order; no more are begun than are waited for, so that results do not pile up."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(do, item))
        if len(waiting) > THREADS:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _latents(columns: Columns, last: Ints, layers: list[int], d_hidden: int) -> csr_matrix:
    """log(1 + activation) at the last answer token, [n_questions, n_layers · d_hidden] float32."""
    there = (columns["position"] > 0) & (columns["position"] == last[columns["question"]])
    index = np.searchsorted(layers, columns["layer"][there])
    return csr_matrix(
        (
            np.log1p(columns["activation"][there]).astype(np.float32),
            (columns["question"][there], index * d_hidden + columns["latent"][there]),
        ),
        shape=(int(columns["question"].max()) + 1, len(layers) * d_hidden),
    )


def _at_places(columns: Columns, last: Ints, path: Path) -> tuple[int, Columns]:
    """Rows at the places that features are read at, their questions counted from the first, and which that is."""
    question, position = columns["question"].astype(np.int64), columns["position"].astype(np.int64)
    if len(question) and (question.min() < 0 or question.max() >= len(last)):
        raise CorruptInputError(
            f"{path} speaks of questions {question.min()} to {question.max()}, but there are {len(last)}; run track again"
        )
    kept = (position <= 1) | (position == last[question])
    first = int(question[kept].min())
    return first, {
        **{name: values[kept] for name, values in columns.items()},
        "question": question[kept] - first,
    }


def _row_groups(path: Path, groups: Sequence[int], names: Sequence[str]) -> Columns:
    with whole(path, MEND, "table of tracks"):
        table = pq.ParquetFile(path).read_row_groups(list(groups), columns=list(names))
        return {name: table[name].to_numpy() for name in names}


def pieces_of(path: Path) -> list[list[int]]:
    """The row groups of a table of tracks, together those that share a question: what is read at a time.

    A writer starts a new row group at a number of rows of its own choice. Raises CorruptInputError.
    """
    pieces: list[list[int]] = []
    highest = -1
    for group, rows in enumerate(_row_counts(path)):
        if not rows:
            continue
        question = _row_groups(path, [group], ["question"])["question"]
        if pieces and question.min() <= highest:
            pieces[-1].append(group)
        else:
            pieces.append([group])
        highest = max(highest, int(question.max()))
    if not pieces:
        raise CorruptInputError(f"{path} has no rows: no latent was active; raise sae.target_l0")
    return pieces


def _row_counts(path: Path) -> list[int]:
    """Rows of each row group. Raises CorruptInputError."""
    with whole(path, MEND, "table of tracks"):
        found = pq.ParquetFile(path).metadata
    return [found.row_group(group).num_rows for group in range(found.num_row_groups)]
