"""New questions without a run: the units that `ghosttrack score` runs, done in a temporary folder by this process.

Model, SAEs, association model and detector are loaded once and kept. Nothing is published: the store of the run is only
read.
"""

from __future__ import annotations

import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ghosttrack.api.asked import Asked
from ghosttrack.api.run import SCORES_OF_ASKED, RunNotice, asked_units
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.manifest import BuildDefinition, Dependency, Manifest, Predicate
from ghosttrack.common.engine.progress import Progress
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.engine.storage import Entry
from ghosttrack.common.errors import MissingInputError
from ghosttrack.common.formats.answers import GENERATIONS, read_answers
from ghosttrack.common.formats.detector import ASKED_SCORES, DETECTOR, DETECTOR_ARRAYS
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.questions import ASKED_LEFT_OUT, OF_NEW, in_chat, of_new

if TYPE_CHECKING:
    from ghosttrack.api.run import Run


QUESTION, DETECTED = "prepare/asked", "detect/all"
ANSWERS = OF_NEW["track/answers"]


class Token(NamedTuple):
    """What the model has just said: text, and how likely the answer is wrong, judged by all that it has said so far.

    logprob, entropy: of the distribution that the token was chosen from, nats.
    """

    text: str
    risk: float
    logprob: float
    entropy: float


class QuietJob(Job):
    """A job of a moment: it shows no progress."""

    def progress(self, total: float, unit: str = "it", what: str = "", initial: float = 0) -> Progress:
        return Progress(total, unit, what, initial, shown=False)


class Session:
    """What asking needs in memory, for as long as the run is open."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.at_hand: dict[str, Any] = {}
        self._known_units: dict[tuple[str, ...], list[Unit]] = {}
        self._log = logging.getLogger("ghosttrack.asked")
        self._log.setLevel(logging.ERROR)

    def ask(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Mapping[str, str] | None = None,
        last: tuple[str, ...] = (SCORES_OF_ASKED,),
    ) -> list[Asked]:
        """The answers to new questions, in order; of a row that cannot be asked a notice says why. rows: `question` or `prompt`, and if wanted `relation`, `subject`, `answer`,
        or a known data set's. columns: our fields to theirs, where they are the rows of somebody's file; last: units that are wanted.

        Raises MissingInputError where the run has no detector yet, DataError for a row that cannot be read.
        """
        scratch, config = self._begin(rows, columns or {})
        for unit in self._units(config, last):
            self._do(unit, config, scratch)
        answers = read_answers(scratch.file(GENERATIONS))
        text = scratch.file(ASKED_SCORES).read_text(encoding="utf-8")
        records = [json.loads(line) for line in text.split("\n") if line]
        found = [
            Asked(self._run, scratch.file, number, answer, record)
            for number, (answer, record) in enumerate(zip(answers, records, strict=True))
        ]
        left_out = ASKED_LEFT_OUT.read(scratch.file(ASKED_LEFT_OUT))
        not_asked = [f"question {row['row']} is not asked: {row['why']}" for row in left_out]
        for notice in [*not_asked, *(notice for one in found for notice in one.notices)]:
            warnings.warn(notice, RunNotice, stacklevel=4)
        return found

    def stream(self, row: Mapping[str, Any]) -> Iterator[Token]:
        """The answer to one new question, token by token with its risk, as the model speaks."""
        from ghosttrack.stages.detect.detector import load
        from ghosttrack.stages.track.loaded import language_model_of
        from ghosttrack.stages.track.questions import questions_of
        from ghosttrack.stages.track.run_answers import ends_of, tokens_of
        from ghosttrack.stages.track.speak import speak

        scratch, config = self._begin([row], {})
        units = self._units(config)
        asked = next(unit for unit in units if unit.label == QUESTION)
        self._do(asked, config, scratch)
        answering = next(unit for unit in units if unit.label == ANSWERS)
        job = self._job(answering, config, scratch)
        folder = self._run.file(DETECTOR).parent
        self._run.file(DETECTOR_ARRAYS)
        detector = job.kept("detector", lambda: load(folder))
        model = language_model_of(job)
        [question] = questions_of(job)
        ends = ends_of(job, model, in_chat(question))
        logprobs: list[float] = []
        entropies: list[float] = []
        for spoken in speak(model, tokens_of(job, model, question), ends, config.tracking.max_new_tokens):
            logprobs.append(spoken.logprob)
            entropies.append(spoken.entropy)
            risk = float(detector.token_risk(logprobs, entropies)[-1])
            yield Token(spoken.text, risk, spoken.logprob, spoken.entropy)

    def _units(self, config: Config, last: tuple[str, ...] = (SCORES_OF_ASKED,)) -> list[Unit]:
        """What is done whenever something is asked; that units are different for different questions matters to keys only."""
        if last not in self._known_units:
            self._known_units[last] = asked_units(config, last)
        return self._known_units[last]

    def _begin(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> tuple[Scratch, Config]:
        """A temporary folder with the questions in it, and the configuration that asks them."""
        folder = tempfile.TemporaryDirectory(prefix="ghosttrack-")
        asked = Path(folder.name) / "questions.jsonl"
        asked.write_text("".join(json.dumps(dict(row), default=str) + "\n" for row in rows), encoding="utf-8")
        data = self._run.config.data.model_copy(update={"asked": str(asked), "columns": columns})
        return Scratch(self._run, folder), self._run.config.model_copy(update={"data": data})

    def _job(self, unit: Unit, config: Config, scratch: Scratch) -> QuietJob:
        folder, inputs = scratch.folder_of(unit), scratch.inputs(unit)
        job = QuietJob(config, unit, self._log, folder, inputs, at_hand=self.at_hand)
        job.output("").mkdir(parents=True)
        return job

    def _do(self, unit: Unit, config: Config, scratch: Scratch) -> None:
        job = self._job(unit, config, scratch)
        importlib.import_module(f"ghosttrack.stages.{unit.stage}.run").run(job)
        scratch.made(unit, job)


class Scratch:
    """The files of one asking; the folder is removed when the last of its questions is forgotten."""

    def __init__(self, run: Run, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._run, self._folder = run, folder
        self._made: dict[str, Entry] = {}

    def folder_of(self, unit: Unit) -> Path:
        return Path(self._folder.name) / unit.stage / unit.name

    def file(self, file: File) -> Path:
        """A file of the units of new questions; those of a run's own mean theirs. Raises MissingInputError."""
        unit = of_new(file).unit
        if unit not in self._made:
            raise MissingInputError(f"{unit} is not made for this question")
        return self._made[unit].file(file.name)

    def inputs(self, unit: Unit) -> dict[str, Entry]:
        """What a unit reads: of the run, verified, or made here a moment ago."""
        entries = {}
        for read in unit.reads:
            if read.name in self._made:
                entries[read.name] = self._made[read.name]
                continue
            entries[read.name] = self._run.entry(read.name)
            files = entries[read.name].manifest.files if read.files == ["*"] else read.files
            for file in files:
                self._run.verified(read.name, file)
        return entries

    def made(self, unit: Unit, job: Job) -> None:
        """Keep what a job wrote, as a result whose manifest says no more than what it was made from."""
        inputs = [
            Dependency(
                name=f"{read.name}/{name}", uri="", digest=subject.digest, annotations={"inTaskKey": True}
            )
            for read in unit.reads
            if read.name not in self._made
            for name, subject in job.entries[read.name].manifest.files.items()
            if read.files == ["*"] or name in read.files
        ]
        made: Any = Manifest.model_construct  # no more of it than is read again
        part: Any = Predicate.model_construct
        build: Any = BuildDefinition.model_construct
        manifest = made(
            subject=[], predicate=part(stage=unit.stage, build_definition=build(resolved_dependencies=inputs))
        )
        self._made[unit.label] = Entry(job.output(""), manifest, "")
