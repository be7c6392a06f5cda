"""A run as an object: what has been published of it, read when it is asked for, from any folder.

What was run is taken from the manifests, so that a run is the same whatever the configuration file says today.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghosttrack.common.config.load import COLUMNS, configured, known_keys, load_config, of_stub, put
from ghosttrack.common.config.schema import NAME, Config, describe_layers
from ghosttrack.common.engine.contract import Contract, Unit, expand, load_contracts, units_of_new
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.errors import ConfigError, DataError, MissingInputError, first_of
from ghosttrack.common.formats.answers import GENERATIONS, read_answers
from ghosttrack.common.formats.detector import ASKED_SCORES
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.questions import QUESTION_MARKS, QUESTIONS, of_new
from ghosttrack.common.formats.reasons import REASONS
from ghosttrack.common.formats.report import REPORT_PAGE
from ghosttrack.common.formats.saes import SAE
from ghosttrack.common.formats.snapshot import TOKENIZER

if TYPE_CHECKING:
    import pandas as pd

    from ghosttrack.api.asked import Asked
    from ghosttrack.api.detector import RunDetector
    from ghosttrack.api.question import Question
    from ghosttrack.api.session import Session, Token
    from ghosttrack.common.formats.answers import Answer
    from ghosttrack.common.models.sae import JumpReLUSAE
    from ghosttrack.stages.track.intervening import Interventions

SCORES_OF_ASKED = ASKED_SCORES.unit
FROZEN = "test"
"""The split whose rows the stored detector was not fitted on."""


class RunNotice(UserWarning):
    """Something about a run that its reader should know: a part is missing, or another version made it."""


@dataclass(frozen=True)
class Report:
    """A run's report for a notebook. text: Markdown, empty where it is not written yet. figures: the content of
    final_report.json."""

    name: str
    text: str = field(repr=False)
    figures: dict[str, Any] = field(repr=False)

    def _repr_markdown_(self) -> str:
        return self.text or f"*{self.name}: figures only; the report is not written yet*"


def open_run(name: str | Path, root: str | Path | None = None, overrides: Sequence[str] = ()) -> Run:
    """Open what a run has published so far.

    name: of the run (`demo`, `demo-stub`), or the configuration file that it was made with. root: the folder it was made
    in; None: paths.root of its configuration, else this folder. overrides: `key=value`, as after `--set`, where the run has no file of its own to tell them. A run that is half
    finished opens too; what is not there is named. Raises MissingInputError where there is nothing at all.
    """
    wanted = str(name)
    base = _configuration(wanted, root, overrides)
    if root is None:
        root = base.paths.root if base is not None else os.environ.get("GHOSTTRACK_ROOT", ".")
    run = opened(base.name if base is not None else wanted, str(root), base)
    for notice in run.notices:
        warnings.warn(notice, RunNotice, stacklevel=2)
    return run


def opened(name: str, root: str, base: Config | None) -> Run:
    """The run of a name under a root. base: the configuration of that name, where there is one. Raises MissingInputError."""
    store = Store(root)
    stages = [contract.stage for contract in load_contracts()]
    found = dict(store.entries(name, stages)) if re.fullmatch(NAME, name) else {}
    entries = {unit: entry for unit, entry in found.items() if isinstance(entry, Entry)}
    if not entries:
        there = ", ".join(store.names()) or "none"
        raise MissingInputError(
            f"{Path(root).resolve()} has no run {name!r} (there: {there}); make it with `ghosttrack run {name}`, or say with "
            "root=… in which folder it was made"
        )
    notices = [str(each) for each in found.values() if not isinstance(each, Entry)]
    return Run(_config_as_run(name, root, base, entries.values()), store, entries, notices)


class Run:
    """One run: its questions, scores, tracks, SAEs, report and detector. Made by `ghosttrack.open`."""

    def __init__(
        self, config: Config, store: Store, entries: dict[str, Entry], notices: Sequence[str] = ()
    ) -> None:
        self.config = config
        self._store, self._entries = store, entries
        contracts = load_contracts()
        expected = [unit for contract in contracts for unit in expand(contract, config)]
        self.missing = [unit.label for unit in expected if unit.label not in entries]
        """Units of the pipeline that have no result yet."""
        self.notices = [*notices, *_versions(entries, contracts), *_mixed(entries)]
        if self.missing:
            self.notices.append(
                f"{config.name} is not finished: {first_of(self.missing)} have no result; `ghosttrack run {config.name}` goes on"
            )

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def root(self) -> Path:
        return self._store.root

    @property
    def layers(self) -> list[int]:
        return self.config.layers

    def __repr__(self) -> str:
        parts = [f"{len(self)} questions"] if self.has("track/answers") else []
        parts.append(f"{len(self.layers)} layers of {self.config.model.base_model.rsplit('/', 1)[-1]}")
        if self.missing:
            parts.append(f"not finished: {len(self.missing)} units missing")
        return f"<Run {self.name}: {', '.join(parts)}>"

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Question]:
        return (self.question(number) for number in range(len(self)))

    def has(self, unit: str) -> bool:
        """Whether a unit (`track/all`) is published."""
        return unit in self._entries

    def entry(self, unit: str) -> Entry:
        """A unit's result. Raises MissingInputError naming what makes it."""
        if unit not in self._entries:
            raise MissingInputError(
                f"{self.name} has no {unit} yet; `ghosttrack run {self.name}` makes it (root {self.root.resolve()})"
            )
        return self._entries[unit]

    def file(self, file: File) -> Path:
        """A published file, checked against its manifest. Raises MissingInputError, CorruptInputError."""
        return self.verified(file.unit, file.name)

    def verified(self, unit: str, name: str) -> Path:
        """The same of a unit, by its name."""
        entry = self.entry(unit)
        if name not in entry.manifest.files:
            raise MissingInputError(f"{unit} of {self.name} has no file {name}; another version made it")
        return self._store.file(entry, name)

    @cached_property
    def answers(self) -> list[Answer]:
        """The model's answers as records, in the order of the questions."""
        return read_answers(self.file(GENERATIONS))

    @cached_property
    def questions(self) -> pd.DataFrame:
        """A row a question, by id: relation, subject, question, and once they were answered answer, gold, wrong, excluded.

        wrong: 1.0 wrong, 0.0 right, NaN where there is no label.
        """
        import pandas as pd

        if not self.has("track/answers"):
            rows = QUESTIONS.read(self.file(QUESTIONS))
            table = pd.DataFrame(rows, columns=["id", "relation", "subject", "query", "answer"])
            return table.rename(columns={"query": "question", "answer": "gold"}).set_index("id")
        columns = ("relation", "subject", "question", "answer", "gold", "label", "excluded")
        cells = [[answer.id, *(getattr(answer, name) for name in columns)] for answer in self.answers]
        table = pd.DataFrame(cells, columns=["id", *columns]).rename(columns={"label": "wrong"})
        table["wrong"] = table["wrong"].astype(float)
        return table.set_index("id")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a labelled question, by id, the likeliest to be wrong first: answer, gold, wrong, probability (of being
        wrong, by a detector that had not seen the question), low, high, called_wrong, error_type, split."""
        import pandas as pd

        rows = [record for record in self._records.values() if record["score"] is not None]
        names = ("id", "relation", "question", "answer", "gold")
        table = pd.DataFrame(
            {
                **{name: [record[name] for record in rows] for name in names},
                "wrong": [float(record["label"]) for record in rows],
                "probability": [record["score"] for record in rows],
                "low": [record["interval"][0] if record.get("interval") else None for record in rows],
                "high": [record["interval"][1] if record.get("interval") else None for record in rows],
                "called_wrong": [bool(record["predicted"]) for record in rows],
                "error_type": [record["error_type"] for record in rows],
                "split": [record["split"] for record in rows],
            }
        )
        return table.sort_values("probability", ascending=False, kind="stable").set_index("id")

    def question(self, which: str | int) -> Question:
        """A question by its id, or by its number. Raises DataError naming the nearest id."""
        from ghosttrack.api.question import Question

        if isinstance(which, str):
            if which not in self._numbers:
                import difflib

                near = difflib.get_close_matches(which, self._numbers, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else "; run.questions lists them"
                raise DataError(f"{self.name} has no question {which!r}{hint}")
            which = self._numbers[which]
        if not isinstance(which, Integral) or isinstance(which, bool):
            raise DataError(f"a question is named by its id or its number, not by a {type(which).__name__}")
        if not -len(self) <= which < len(self):
            raise DataError(f"{self.name} has {len(self)} questions, no number {which}")
        number = range(len(self))[which]
        answer = self.answers[number]
        record = self._records.get(answer.id) if self.has("detect/all") else None
        return Question(self, self.file, number, answer, record)

    def in_fit(self, question_id: str) -> bool:
        """Whether the stored detector was fitted on this question."""
        record = self._records.get(question_id)
        return record is not None and record["score"] is not None and record["split"] != FROZEN

    def sae(self, layer: int) -> JumpReLUSAE:
        """The SAE of a layer: `encode`, `decode`, `top_k` on block outputs in the model's units."""
        from ghosttrack.common.models.sae import JumpReLUSAE

        if layer not in self.layers or not isinstance(layer, Integral) or isinstance(layer, bool):
            raise DataError(
                f"{self.name} has layers {describe_layers(self.layers)}, no SAE of layer {layer!r}"
            )
        path = self.file(SAE.of(layer))
        return JumpReLUSAE.load(path, d_model=self.config.model.d_model, layer=layer)

    @cached_property
    def latents(self) -> pd.DataFrame:
        """A row a latent, by layer and latent: firing_rate, mean_activation, promoted and suppressed tokens, label and its score (F1)."""
        return LATENTS.frame(self.file(LATENTS)).set_index(["layer", "latent"])

    @cached_property
    def _reasons(self) -> dict[int, Mapping[str, Any]]:
        """The lines of reasons.jsonl by number."""
        if not self.has(REASONS.unit):
            return {}
        return {line["question"]: line for line in REASONS.each(self.file(REASONS))}

    @cached_property
    def report(self) -> Report:
        """The report: `.text` (Markdown) and `.figures` (every number, as in final_report.json)."""
        text = self.file(REPORT_PAGE).read_text(encoding="utf-8") if self.has("report/all") else ""
        return Report(self.name, text, REPORT.read(self.file(REPORT)))

    @cached_property
    def detector(self) -> RunDetector:
        """The stored detector: `run.detector.score(["…", …])`."""
        from ghosttrack.api.detector import RunDetector

        self.entry("detect/all")
        return RunDetector(self)

    def ask(self, question: str, *, relation: str | None = None, subject: str | None = None) -> Asked:
        """Let the model answer a new question; its tracks, and how likely the answer is wrong. Publishes nothing.

        question: a text that ends with a question mark is put as a question, any other text is what the model goes on with.
        relation: one of the run's, whose worked examples then come first. subject: what it is about, where it stands in
        the text. The first question loads the model; it stays in memory.
        """
        return self._session.ask([_as_row(question, relation=relation, subject=subject)])[0]

    @cached_property
    def asked(self) -> list[Asked]:
        """The questions of the last `ghosttrack score`, in order; empty where there are none."""
        from ghosttrack.api.asked import Asked
        from ghosttrack.stages.report.results import Results

        scored = Results(self._store, self.name, self._entries, deep=False).of_new_questions()
        if scored is None:
            return []
        answers = read_answers(self.file(of_new(GENERATIONS)))
        records = scored.lines(ASKED_SCORES)
        return [
            Asked(self, lambda file: self.file(of_new(file)), number, answer, record)
            for number, (answer, record) in enumerate(zip(answers, records, strict=True))
        ]

    def stream(
        self, question: str, *, relation: str | None = None, subject: str | None = None
    ) -> Iterator[Token]:
        """The answer to a new question token by token, as the model speaks: `.text` and `.risk`, how likely the answer is
        wrong by all that was said so far. Takes what `ask` takes."""
        return self._session.stream(_as_row(question, relation=relation, subject=subject))

    @cached_property
    def _session(self) -> Session:
        from ghosttrack.api.session import Session

        return Session(self)

    @cached_property
    def _interventions(self) -> Interventions:
        from ghosttrack.stages.track.intervening import Interventions

        model = self._store.folder(self.entry("prepare/model"))
        return Interventions.open(model, self.file, self.config)

    @cached_property
    def _records(self) -> dict[str, Mapping[str, Any]]:
        """The lines of hallucination_scores.json by id."""
        scores = SCORES.read(self.file(SCORES))
        return {record["id"]: record for record in scores["questions"]}

    @cached_property
    def _fitted_prompts(self) -> dict[str, str]:
        """Prompt to id of the questions that the stored detector was fitted on."""
        return {answer.prompt: answer.id for answer in self.answers if self.in_fit(answer.id)}

    @cached_property
    def _tokenizer(self) -> Mapping[str, Any]:
        return TOKENIZER.read(self.file(TOKENIZER))

    def _token_texts(self, tokens: Sequence[int]) -> dict[int, str]:
        from ghosttrack.common.models.vocabulary import token_texts

        return token_texts(self._tokenizer, set(tokens))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {answer.id: number for number, answer in enumerate(self.answers)}


def _as_row(text: str, **labels: str | None) -> dict[str, str]:
    if not isinstance(text, str):
        raise DataError(f"a question is a text, not a {type(text).__name__}")
    known = {name: value for name, value in labels.items() if value is not None}
    return {"question" if text.rstrip().endswith(QUESTION_MARKS) else "prompt": text, **known}


def _configuration(wanted: str, root: str | Path | None, overrides: Sequence[str]) -> Config | None:
    """The configuration of that name or file, as it is today; None where there is none."""
    if not wanted.endswith((".yaml", ".yml")) and not configured(of_stub(wanted)[0]):
        return None
    environ = {name: os.environ[name] for name in ("GHOSTTRACK_ROOT",) if name in os.environ}
    overrides = [*([] if root is None else [f"paths.root={root}"]), *overrides]
    return load_config(wanted, overrides, environ=environ)


def _config_as_run(name: str, root: str, base: Config | None, entries: Iterable[Entry]) -> Config:
    """The configuration with what the manifests say was run. Raises ConfigError where that is not enough."""
    data: dict[str, Any] = {} if base is None else base.model_dump(mode="json")
    known = set(known_keys())
    for entry in entries:
        for key, value in entry.parameters.items():
            key = "model.layers" if key == "layers" else key
            if isinstance(value, str) and value.startswith("sha256:") and base is not None:
                continue  # a file of the user's, by content; the configuration says where it lies
            if key in known or key.startswith(COLUMNS):  # else it is of another version
                put(data, key, value)
    data["name"] = name
    data["paths"] = {"root": root}
    try:
        return Config.model_validate(data)
    except ValueError as error:
        raise ConfigError(
            f"what the manifests of {name} say does not make a whole configuration ({' '.join(str(error).split())[:200]}); "
            "open it by its configuration file"
        ) from error


def _versions(entries: Mapping[str, Entry], contracts: Sequence[Contract]) -> list[str]:
    """Notices about results that another version of a stage made."""
    notices = []
    for contract in contracts:
        made = {
            entry.manifest.predicate.contract_version
            for label, entry in entries.items()
            if label.startswith(f"{contract.stage}/")
        } - {contract.version}
        if made:
            versions = " and ".join(map(str, sorted(made)))
            notices.append(
                f"results of {contract.stage} were made by version {versions} of the stage, and this is version "
                f"{contract.version}: they may mean something else, or lack what is new"
            )
    return notices


def _mixed(entries: Mapping[str, Entry]) -> list[str]:
    """Notices about results whose rows need not fit each other: one was made from a file that now is another."""
    here = {
        f"{label}/{name}": subject.sha256
        for label, entry in entries.items()
        for name, subject in entry.manifest.files.items()
    }
    notices = []
    for label, entry in entries.items():
        read = entry.manifest.input_digests
        if others := sorted(name for name, digest in read.items() if here.get(name, digest) != digest):
            notices.append(
                f"{label} was made from another {first_of(others)} than what is here, so that their rows need not fit; "
                "`ghosttrack run` makes it again"
            )
    return notices


def asked_units(config: Config, last: Sequence[str] = (SCORES_OF_ASKED,)) -> list[Unit]:
    """What new questions need for these units: those that only they make, in the order in which they run.

    config: with `data.asked`.
    """
    contracts = load_contracts()
    new, needed, wanted = set(units_of_new(contracts)), [], set(last)
    units = [unit for contract in contracts for unit in expand(contract, config)]
    for unit in reversed(units):  # what reads comes after what it reads
        if unit.label in wanted & new:
            needed.append(unit)
            wanted |= {read.name for read in unit.reads}
    return needed[::-1]
