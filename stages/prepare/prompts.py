"""Few-shot cloze prompts: worked examples of a relation, then the same sentence cut off before its answer.

A prompt is `prefix + query`. The prefix, shared by all questions of a relation, has one line a shot; the
query ends without a space, so that the model goes on with ` answer` and a newline.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ghosttrack.common.errors import DataError
from ghosttrack.common.maths.seeds import generator
from ghosttrack.stages.prepare.countries import spoken
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.relations import COUNTRY_SUBJECTS
from ghosttrack.stages.prepare.rows import LETTERS, Given
from ghosttrack.stages.prepare.text import fold, slug

Shot = tuple[str, str]
"""A worked example: what is asked (or a sentence up to its end), and the answer."""

TEMPLATES: Mapping[str, str] = {
    "anthem": 'The song "{subject}" is the national anthem of',
    "border": "A country that shares a land border with {subject} is",
    "calling_code": "The international telephone calling code of {subject} is",
    "capital": "The capital of {subject} is",
    "capital_of": "{subject} is the capital of",
    "city": "The city of {subject} is in the country of",
    "continent": "The continent where {subject} is located is",
    "currency": "The currency of {subject} is the",
    "currency_code": "The three-letter currency code of {subject} is",
    "demonym": "The nationality of a person from {subject} is",
    "division": "The region called {subject} is in the country of",
    "heritage": "The World Heritage Site {subject} is in the country of",
    "independence_from": "{subject} gained its independence from",
    "independence_year": "{subject} became independent in the year",
    "internet_code": "The internet country code of {subject} is",
    "lake": "The lake called {subject} is in the country of",
    "largest_city": "The largest city in {subject} is",
    "local_name": "The local name {subject} stands for the country of",
    "official_language": "An official language of {subject} is",
    "peak": "The peak called {subject} is in the country of",
    "port": "The port of {subject} is in the country of",
    "religion": "The largest religious group in {subject} is",
    "river": "The {subject} river flows through the country of",
}

QUESTIONS: Mapping[str, str] = {
    "anthem": 'Of which country is the song "{subject}" the national anthem?',
    "border": "Which country shares a land border with {subject}?",
    "calling_code": "What is the international telephone calling code of {subject}?",
    "capital": "What is the capital of {subject}?",
    "capital_of": "{subject} is the capital of which country?",
    "city": "In which country is the city of {subject}?",
    "continent": "On which continent is {subject} located?",
    "currency": "What is the currency of {subject}?",
    "currency_code": "What is the three-letter currency code of {subject}?",
    "demonym": "What is the nationality of a person from {subject}?",
    "division": "In which country is the region called {subject}?",
    "heritage": "In which country is the World Heritage Site {subject}?",
    "independence_from": "From which country did {subject} gain its independence?",
    "independence_year": "In which year did {subject} become independent?",
    "internet_code": "What is the internet country code of {subject}?",
    "lake": "In which country is the lake called {subject}?",
    "largest_city": "What is the largest city in {subject}?",
    "local_name": "Which country does the local name {subject} stand for?",
    "official_language": "What is an official language of {subject}?",
    "peak": "In which country is the peak called {subject}?",
    "port": "In which country is the port of {subject}?",
    "religion": "What is the largest religious group in {subject}?",
    "river": "Through which country does the {subject} river flow?",
}
"""The same, asked for."""

RESERVED_SETS = 4
"""Sets of further worked examples that are left where a relation has facts enough."""


@dataclass(frozen=True)
class QuestionLine:
    """A line of `questions.jsonl`; the prompt is `prefix + query`, `aliases` holds `answer` too.

    question: what is asked, in plain words, with passage and options, without worked examples and marks. shots: the worked
    examples behind the prefix, each question (or cloze) and completion.
    """

    id: str
    relation: str
    subject: str
    prefix: str
    query: str
    answer: str
    aliases: tuple[str, ...]
    question: str = ""
    shots: tuple[Shot, ...] = ()
    closing: str | None = None
    """Of a turn of a chat: what its template writes between the question and the model's answer."""
    given: Given = field(default_factory=Given, hash=False)

    @property
    def prompt(self) -> str:
        return self.prefix + self.query + (self.closing or "")

    @property
    def chat(self) -> bool:
        return self.closing is not None

    @property
    def asks(self) -> bool:
        """Whether it is a question, and not a text to go on from."""
        return (self.question or self.query).strip() != self.query.strip() or self.chat

    def record(self) -> dict[str, object]:
        """The question as JSON-ready data; of what a file may give, what it gives."""
        given = {
            name: value
            for name, value in vars(self.given).items()
            if name != "id" and (value not in (None, (), {}) or (name == "spans" and value is not None))
        }
        own = {
            name: value for name, value in vars(self).items() if name != "given" and (name != "closing" or self.chat)
        }  # fmt: skip
        return {**own, "question": self.question or self.query, **given}


def ask(
    facts: Sequence[Fact],
    *,
    shots: int,
    seed: int,
    most: int | None = None,
    relations: Sequence[str] | None = None,
    short_relations_without_shots: bool = False,
) -> list[QuestionLine]:
    """Questions from facts, sorted by relation and id: a sample that is even over the relations.

    shots: facts of each relation set aside as worked examples; they and their subjects are never asked
    in that relation. most: at most so many questions in all. relations: only these.
    short_relations_without_shots: ask a relation of too few facts without worked examples; else it is
    left out. Raises DataError for a relation that does not exist or when nothing is left to ask.
    """
    by_relation: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_relation[fact.relation].append(fact)
    if relations is not None:
        if unknown := [name for name in relations if name not in by_relation]:
            raise DataError(
                f"data.relations names {unknown[0]!r}, which the questions do not have; "
                f"they have {', '.join(sorted(by_relation))}"
            )
        by_relation = defaultdict(list, {name: by_relation[name] for name in relations})
    examples: dict[str, list[Fact]] = {}
    pools: dict[str, list[Fact]] = {}
    for relation, members in sorted(by_relation.items()):
        count = shots
        if len(members) < shots + 1:
            if not short_relations_without_shots:
                continue
            count = 0
        examples[relation] = choose_shots(members, count, generator(seed, "shots", relation))
        taken = {fold(fact.subject) for fact in examples[relation]}
        pools[relation] = [fact for fact in members if fold(fact.subject) not in taken]
    asked = stratified_sample(pools, most, seed, shots)
    if not any(asked.values()):
        raise DataError(
            f"no question is left: no relation has more than data.shots = {shots} facts; lower data.shots"
        )
    questions = []
    for relation, members in asked.items():
        questions += [question(fact, examples[relation]) for fact in members]
    return with_unique_ids(sorted(questions, key=lambda q: (q.relation, q.id, q.subject)))


def choose_shots(members: Sequence[Fact], count: int, random: np.random.Generator) -> list[Fact]:
    """`count` facts with different answers as far as there are any, so that no answer looks like a habit."""
    chosen: list[Fact] = []
    later: list[Fact] = []
    answers: set[str] = set()
    for index in random.permutation(len(members)):
        fact = members[index]
        (later if fact.answer in answers else chosen).append(fact)
        answers.add(fact.answer)
        if len(chosen) == count:
            break
    return [*chosen, *later][:count]


def stratified_sample(
    pools: Mapping[str, Sequence[Fact]], most: int | None, seed: int, shots: int = 0
) -> dict[str, list[Fact]]:
    """As even a share of each pool as its size allows, `most` in all (None: everything).

    Whole sets of `shots` facts are left for further contexts (`contexts.py`), at most a fifth of a pool.
    """
    reserved = {
        name: shots * min(RESERVED_SETS, len(pool) // (5 * shots)) if shots else 0
        for name, pool in pools.items()
    }
    quota = even_quota({name: len(pool) - reserved[name] for name, pool in pools.items()}, most)
    sample = {}
    for name, pool in pools.items():
        order = generator(seed, "questions", name).permutation(len(pool))[: quota[name]]
        sample[name] = [pool[index] for index in sorted(order)]
    return sample


def even_quota(sizes: Mapping[str, int], most: int | None) -> dict[str, int]:
    """How many to take from each pool: equal numbers, small pools wholly, remainders in order of name."""
    if most is None:
        return dict(sizes)
    quota = dict.fromkeys(sizes, 0)
    left = min(most, sum(sizes.values()))
    while left:
        open_pools = sorted(name for name in sizes if quota[name] < sizes[name])
        share = max(1, left // len(open_pools))
        for name in open_pools:
            taken = min(share, sizes[name] - quota[name], left)
            quota[name] += taken
            left -= taken
    return quota


def asked_for(fact: Fact) -> Fact:
    """The fact with a question in words, for one that a sentence of TEMPLATES asks for."""
    subject = spoken(fact.subject) if fact.relation in COUNTRY_SUBJECTS else fact.subject
    words = QUESTIONS[fact.relation].format(subject=subject)
    return replace(fact, question=words[0].upper() + words[1:])


def cloze(fact: Fact) -> str:
    """The sentence up to the answer, or `Q: …` and `A:`, without a space at its end."""
    if fact.question is not None:
        return asked(fact.question, fact.given)
    template = TEMPLATES[fact.relation]
    subject = spoken(fact.subject) if fact.relation in COUNTRY_SUBJECTS else fact.subject
    sentence = template.format(subject=subject)
    return sentence[0].upper() + sentence[1:]


def completion(fact: Fact) -> str:
    """The answer as the sentence goes on with it: `the Bahamas` for a country that takes an article."""
    return spoken(fact.answer) if fact.question is None else fact.answer


def asked(question: str, given: Given) -> str:
    """`Q: …` and `A:`, after the passage if there is one, before the options if there are any."""
    passage = f"{given.passage.strip()}\n" if given.passage else ""
    return f"{passage}Q: {question}{options(given)}\n{'Answer:' if given.choices else 'A:'}"


def in_words(question: str, given: Given) -> str:
    """The question with its passage and options, without marks."""
    passage = f"{given.passage.strip()}\n" if given.passage else ""
    return f"{passage}{question}{options(given)}"


def options(given: Given) -> str:
    """A line an option, with its letter; empty without options."""
    return "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, given.choices, strict=False))


def question(fact: Fact, examples: Sequence[Fact] = ()) -> QuestionLine:
    """The question that asks for a fact after worked examples."""
    prefix = "".join(f"{cloze(example)} {completion(example)}\n" for example in examples)
    return QuestionLine(
        id=fact.given.id or f"{fact.relation}/{slug(fact.subject)}",
        relation=fact.relation,
        subject=fact.subject,
        prefix=prefix,
        query=cloze(fact),
        answer=fact.answer,
        aliases=fact.aliases,
        question=_plainly(fact),
        shots=tuple(shot_of(example) for example in examples),
        given=fact.given,
    )


def shot_of(example: Fact) -> Shot:
    """A worked example as question (or cloze) and completion."""
    return _plainly(example), completion(example)


def _plainly(fact: Fact) -> str:
    return cloze(fact) if fact.question is None else in_words(fact.question, fact.given)


def with_unique_ids(questions: Iterable[QuestionLine]) -> list[QuestionLine]:
    """The questions, those that share an id told apart by a digest of their text; ids do not hang on order."""
    groups: defaultdict[str, list[QuestionLine]] = defaultdict(list)
    for item in questions:
        groups[item.id].append(item)
    renamed = []
    for members in groups.values():
        for item in members:
            if len(members) == 1:
                renamed.append(item)
                continue
            given = item.given
            digest = hashlib.sha256(
                f"{item.prompt}\0{item.answer}{given.response or ''}{given.row or ''}".encode()
            ).hexdigest()[:8]
            renamed.append(replace(item, id=f"{item.id}-{digest}"))
    return renamed
