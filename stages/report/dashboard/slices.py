"""The blocks of the dashboard one by one, each made when it is asked for: what `ghosttrack serve` sends.

They are those of the single file (`build.py`), but for what a file has no room for: every track and position of a question,
every context of a latent, and a page of every latent. Nothing of the size of the run is read but the list of questions; what
all tracks together say of a latent is counted in the background once the first latent is looked at.
"""

import functools
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow.compute as pc

from ghosttrack.common.foreign import uncollected
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.questions import NEW
from ghosttrack.stages.report.dashboard import run_card
from ghosttrack.stages.report.dashboard.asked import Record, read_questions, told
from ghosttrack.stages.report.dashboard.build import run_data
from ghosttrack.stages.report.dashboard.latents import LatentBook
from ghosttrack.stages.report.dashboard.measured import measurements, tokens_said
from ghosttrack.stages.report.dashboard.packing import packed
from ghosttrack.stages.report.dashboard.questions import (
    WIDTH,
    Detail,
    index,
    labels_of,
    question_block,
    read_census,
    read_trajectories,
)
from ghosttrack.stages.report.dashboard.reasons import explanation
from ghosttrack.stages.report.dashboard.tracks import Census
from ghosttrack.stages.report.results import Results

EVERYTHING = Detail(positions=1 << 30, tracks=1 << 30, contexts=1 << 30)
BOOKS = 3
"""Layers whose contexts are kept in memory."""
quick = functools.partial(packed, level=1)  # it does not go far


class StoredQuestion(NamedTuple):
    """Where the tables of a question lie, and which question it is in them."""

    results: Results
    number: int
    record: Record


class Slices:
    """Blocks by name: `run`, `questions`, `tokens`, `latents`, `q<number>` of a question, `f<number>` of a latent.

    Many threads may ask at a time.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self._books: dict[int, LatentBook] = {}
        self._live: list[StoredQuestion] = []
        self._live_scores: list[Record] = []
        self._counting: threading.Thread | None = None

    def block(self, name: str) -> bytes:
        """Raises KeyError for a block that there is not, CorruptInputError for a result that is not as its manifest says."""
        if name == "tokens":  # those of a question come with it
            return quick({})
        if name in ("run", "questions", "latents"):
            make: Callable[[], bytes] = getattr(self, f"_{name}_block")
            return self._once(f"block {name}", make)
        found = re.fullmatch(r"([qf])(\d{1,9})", name)
        if found is None:
            raise KeyError(name)
        return (self._question_block if found[1] == "q" else self._latent_block)(int(found[2]))

    def add(self, results: Results, answer: Mapping[str, Any], score: Mapping[str, Any]) -> Record:
        """Show a question that has just been asked, the first of its results; its short record with its `number`."""
        with self._lock:
            identity = f"{NEW}{len(self._live) + 1}"
            while identity in {place.record["id"] for place in self.places}:
                identity += "′"
            self._live.append(StoredQuestion(results, 0, told(answer, score, identity)))
            self._live_scores.append({**score, "id": identity})
            self._made.pop("places", None)
            self._made.pop("block questions", None)
            return {**self._index()[-1], "number": len(self.places) - 1}

    @property
    def places(self) -> list[StoredQuestion]:
        """The run's own questions, those of `ghosttrack score`, and those that were asked since."""
        return self._once("places", lambda: [*self._stored[0], *self._live])

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    @property
    def _stored(self) -> tuple[list[StoredQuestion], list[Record], int]:
        """Questions and scores of the store, and how many of them are the run's own."""
        return self._once("stored", self._read)

    def _read(self) -> tuple[list[StoredQuestion], list[Record], int]:
        own, others, scores = read_questions(self._results)
        places = [StoredQuestion(self._results, number, record) for number, record in enumerate(own)]
        if new := self._results.of_new_questions():
            places += [StoredQuestion(new, number, record) for number, record in enumerate(others)]
        return places, scores, len(own)

    def _index(self) -> list[Record]:
        _, scores, own = self._stored
        records = [place.record for place in self.places]
        return index(records, [*scores, *self._live_scores], len(records) - own)

    def _run_block(self) -> bytes:
        results = self._results
        data = run_data(results, self._stored[2], a_block=1)
        shown = [(file.unit, file.name) for _, file in run_card.PARTS if results.has(file)]
        digests = {f"{unit}/{name}": results.digest(unit, name) for unit, name in shown}
        return quick({**data, "digests": digests, "extent": {}})

    def _questions_block(self) -> bytes:
        return quick(self._index())

    def _question_block(self, number: int) -> bytes:
        if number >= len(self.places):
            raise KeyError(number)
        results, line, record = self.places[number]
        only = range(line, line + 1)
        if not record.get("explanation"):
            record = {**record, "explanation": explanation(self._scores.get(record["id"], {}))}
        record = {**record, **measurements(results, [record], only)[0]}
        found, texts = read_trajectories(results, [record], tokens_said(record), only, EVERYTHING.tracks)
        return quick(*question_block(range(1), [{**record, "texts": texts}], found, EVERYTHING))

    @property
    def _scores(self) -> dict[str, Record]:
        return self._once("scores", lambda: {score["id"]: score for score in self._stored[1]})

    def _latents_block(self) -> bytes:
        layer, latent, promoted, label = self._latents
        return quick({"a_block": 1, "promoted": promoted, "label": label}, {"layer": layer, "latent": latent})

    @property
    def _latents(self) -> tuple[Any, ...]:
        """Of every latent its layer and number, three tokens that it promotes, and its label with its score."""
        return self._once("latents", self._read_latents)

    @uncollected()
    def _read_latents(self) -> tuple[Any, ...]:
        if not self._results.has_table(LATENTS):
            return (), (), [], []
        path = self._results.path(LATENTS)
        table = LATENTS.table(path, ["layer", "latent", "promoted", "label", "label_score"])
        label = [
            None if text is None else [text, round(score, 3)]
            for text, score in zip(table["label"].to_pylist(), table["label_score"].to_pylist(), strict=True)
        ]
        promoted = pc.list_slice(table["promoted"], 0, 3).to_pylist()
        return table["layer"].to_numpy(), table["latent"].to_numpy(), promoted, label

    def _latent_block(self, number: int) -> bytes:
        layers, latents, *_ = self._latents
        if number >= len(layers):
            raise KeyError(number)
        layer = int(layers[number])
        with self._lock:
            counted: Census | None = self._made.get("census")
            if counted is None and self._counting is None:
                self._counting = threading.Thread(target=self._count, daemon=True)
                self._counting.start()
            if layer not in self._books:
                ids = [place.record["id"] for place in self.places[: self._stored[2]]]
                while len(self._books) >= BOOKS:
                    del self._books[next(iter(self._books))]
                self._books[layer] = LatentBook(
                    self._results, counted or Census(WIDTH, self._labels), ids, layer
                )
            book = self._books[layer]
        page = book.page(layer * WIDTH + int(latents[number]), EVERYTHING.contexts)
        return quick([{**page, "counting": counted is None}])

    @property
    def _labels(self) -> Any:
        return labels_of([place.record for place in self.places[: self._stored[2]]])

    def _count(self) -> None:
        census = read_census(self._results, Census(WIDTH, self._labels))
        with self._lock:
            self._made["census"] = census
            self._books.clear()
