"""The model's answers as the stages after `track` read them: `generations.jsonl`, checked line by line."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from ghosttrack.common.errors import DataError
from ghosttrack.common.formats.file import Lines

GENERATIONS = Lines(
    "generations.jsonl",
    "track/answers",
    "a question a line, in the order of questions.jsonl; `question` in every other file is the number of the line, from 0: "
    "`id, relation, subject, group, prompt, question` (as in questions.jsonl), `query, answer` (the model's), `gold, aliases, label` (1 wrong, 0 right, null excluded), "
    "`strict_label` (exact match), `excluded` (reason or null), `matched` (what each matcher that can say something of such an "
    "answer says, 1 wrong, 0 right), `n_shots` (worked examples before it), `subject_found` (in the query, not at the sequence's first "
    "token), `token_ids, tokens, logprobs, entropies` (lists, a value an answer token), `samples` (texts, with "
    "`detection.samples`), `row, extra` (as in questions.jsonl); of a given answer `given` (true), of a profile `claims` ([start, "
    "end, label, relation] in characters of the answer) and `token_relations` (of the claim that a token is in), and of both `token_labels` where spans are labelled (1 in a wrong one, "
    "0 in a right one, null where nothing is said of it)",
)


class Answer(BaseModel):
    """One question, the model's own greedy answer and its label; further fields of the line are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    relation: str
    subject: str = ""
    group: str
    """Questions that must share a fold, such as all on one subject."""
    prompt: str
    question: str
    """What is asked, in plain words, without worked examples."""
    query: str
    """The end of the prompt that asks it, after the worked examples."""
    answer: str
    gold: str
    label: int | None
    """1 wrong, 0 right, None excluded."""
    excluded: str | None = None
    """Why there is no label."""
    tokens: list[str]
    logprobs: list[float]
    """Natural log-probability of each answer token when it was chosen."""
    entropies: list[float]
    """Entropy in nats of the distribution that each answer token was chosen from."""
    token_ids: list[int] = []
    aliases: list[str] = []
    """Every right answer. For labels and groups; a feature must not see it."""
    matched: dict[str, int] = {}
    """What each matcher that can say something of such an answer says: 1 wrong, 0 right."""
    strict_label: int | None = None
    """The label by exact match with a right answer."""
    n_shots: int = 0
    """Worked examples before the question."""
    subject_found: bool = True
    """Whether the subject stands in the prompt, so that there is a position -1."""
    given: bool = False
    """Whether the answer was there already and only read, not given by the model."""
    token_labels: list[int | None] = []
    """Where spans are labelled: of each answer token 1 in a wrong one, 0 in a right one, None where nothing is said of it."""
    claims: list[tuple[int, int, int, str]] = []
    """Of a profile: start and end in the answer, 1 wrong or 0 right, and the relation; each has its tokens' label."""
    token_relations: list[str | None] = []
    """Of a profile: the relation of the claim that each token is in."""
    row: int | None = None
    """Of the source file, from 1."""
    extra: dict[str, Any] = {}
    """The source's other columns, kept for its owner. For the reader; a feature must not see it."""
    samples: list[str] = []
    """Further answers drawn at random; empty unless `detection.samples` asks for them."""

    @field_validator("id", "group", "gold", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @field_validator("label")
    @classmethod
    def _is_binary(cls, value: int | None) -> int | None:
        if value not in (0, 1, None):
            raise ValueError("must be 0 (right), 1 (wrong) or null")
        return value

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Answer":
        if not len(self.tokens) == len(self.logprobs) == len(self.entropies):
            raise ValueError("tokens, logprobs and entropies must have one value an answer token")
        return self

    @property
    def prefix(self) -> str:
        """The prompt's worked examples."""
        return self.prompt[: max(self.prompt.rfind(self.query), 0)]

    @property
    def chat(self) -> bool:
        """Whether it was asked as a turn of a chat: the template's words come between the question and the answer."""
        return not self.prompt.endswith(self.query)

    @property
    def reason(self) -> str | None:
        """Why the answer is left out of fitting and figures; None if it is in."""
        return None if self.label is not None else self.excluded or "unexplained"


def read_answers(path: Path) -> list[Answer]:
    """All lines in order. Raises CorruptInputError for a bad line, DataError for an id that comes twice."""
    answers = GENERATIONS.read_as(path, Answer)
    seen: set[str] = set()
    for answer in answers:
        if answer.id in seen:
            raise DataError(f"{path}: question id {answer.id!r} occurs twice; ids must be unique")
        seen.add(answer.id)
    return answers
