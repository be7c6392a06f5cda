"""Other contexts for the questions: further worked examples of a relation, so that an answer can be read again afresh.

Where a relation has too few facts, its own examples come reversed, halved and turned; where it has no examples, facts that
everybody knows or a sentence of instruction stand before the question. Nothing here shows an asked subject, and no context
holds the answer of an asked question but by coincidence.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ghosttrack.common.formats.contexts import Context
from ghosttrack.common.maths.seeds import generator
from ghosttrack.stages.prepare.chat import Chat
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.prompts import QuestionLine, Shot, choose_shots, cloze, completion, shot_of
from ghosttrack.stages.prepare.text import fold

GENERAL: tuple[tuple[str, str, str], ...] = (
    ("What is the colour of fresh snow?", "The colour of fresh snow is", "white"),
    ("How many legs does a spider have?", "The number of legs of a spider is", "eight"),
    ("Which animal gives us wool?", "The animal that gives us wool is the", "sheep"),
    ("What do bees make?", "The food that bees make is", "honey"),
    ("Which season follows winter?", "The season that follows winter is", "spring"),
    ("What is frozen water called?", "Frozen water is called", "ice"),
    ("Which planet do we live on?", "The planet that we live on is", "Earth"),
    ("How many days are in a week?", "The number of days in a week is", "seven"),
    ("What is a young dog called?", "A young dog is called a", "puppy"),
    ("Which metal is attracted by a magnet?", "A metal that is attracted by a magnet is", "iron"),
    ("Which organ pumps the blood?", "The organ that pumps the blood is the", "heart"),
    ("What is the opposite of north?", "The opposite of north is", "south"),
    ("Which meal is eaten in the morning?", "The meal that is eaten in the morning is", "breakfast"),
    ("What do trees grow in autumn on an oak?", "The fruit of an oak is the", "acorn"),
    ("Which gas do we breathe to live?", "The gas that we breathe to live is", "oxygen"),
    ("What is the first month of the year?", "The first month of the year is", "January"),
)
"""Question, cloze and answer: worked examples for questions that have none of their own."""
INSTRUCTIONS = (
    "Here is a fact.", "Finish the sentence as an encyclopedia would.", "The following is true.",
    "Give the right answer, and nothing else.", "A short and correct answer is wanted.",
    "This is from a book of facts.",
)  # fmt: skip
"""Sentences that change the framing of a question and not its meaning."""


class Spare(NamedTuple):
    """What a question file holds beyond what is asked: facts, and prompts that are asked as they stand."""

    facts: Sequence[Fact]
    prompts: Sequence[QuestionLine]


class Manner(NamedTuple):
    """How questions are put. text: instruction and worked examples as the text before a question; general: worked examples
    for questions that have none."""

    text: Callable[[str, Sequence[Shot]], str]
    general: Sequence[Shot]
    chat: bool = False

    @classmethod
    def of(cls, question: QuestionLine, chat: Chat | None) -> "Manner":
        if question.chat:
            assert chat is not None
            return cls(chat.prefix, [(asked, answer) for asked, _, answer in GENERAL], True)
        asks = question.query.endswith("\nA:")
        return cls(
            text_of, [(f"Q: {asked}\nA:" if asks else line, answer) for asked, line, answer in GENERAL]
        )


def contexts_of(
    questions: Sequence[QuestionLine],
    spare: Spare,
    count: int,
    shots: int,
    seed: int,
    chat: Chat | None = None,
) -> list[Context]:
    """Up to `count` contexts for every relation of the questions, and for prompts that hold their own examples.

    spare: may hold the asked questions too; what shares a subject with one of the same relation is not used. chat: needed
    for questions that are turns of it; a relation that has both kinds has contexts for its turns, and each other question
    its own.
    """
    groups: defaultdict[str, list[QuestionLine]] = defaultdict(list)
    for question in questions:
        groups[question.relation].append(question)
    facts: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in spare.facts:
        facts[fact.relation].append(fact)
    prompts: defaultdict[str, list[QuestionLine]] = defaultdict(list)
    for prompt in spare.prompts:
        prompts[prompt.relation].append(prompt)
    found: list[Context] = []
    for relation, members in sorted(groups.items()):
        taken = {fold(question.subject) for question in members}
        turns = [question for question in members if question.chat]
        others = [question for question in members if not question.chat]
        for alike in filter(None, (turns, others)):
            lines = _lines(alike, facts[relation], prompts[relation], taken)
            new = _new_sets(lines, shots or DEFAULT_SHOTS, count, seed, relation)
            manner = Manner.of(alike[0], chat)
            first = next((question for question in alike if question.prefix), alike[0])
            variants = _distinct(first, first.prefix, _own(first), new, manner, count)
            mixed = alike is others and turns
            for name in [question.id for question in alike] if mixed else [None]:
                found += [context.model_copy(update={"question": name}) for context in variants]
        for question in others:
            own, query = split_prompt(question.query)
            if own:
                manner = Manner.of(question, chat)
                found += _distinct(question, own, examples_of(own), [], manner, count, query)
    return found


def _own(question: QuestionLine) -> list[Shot]:
    """The worked examples before a question."""
    return list(question.shots) if question.chat else examples_of(question.prefix)


def _lines(
    members: Sequence[QuestionLine], facts: Sequence[Fact], prompts: Sequence[QuestionLine], taken: set[str]
) -> list[tuple[str, str, Fact]]:
    """What worked examples can be made of, as they are put to these questions of one relation and one manner."""
    free = [fact for fact in facts if fold(fact.subject) not in taken]
    if members[0].chat:
        shown = {shot for question in members for shot in question.shots}
        return [(*shot_of(fact), fact) for fact in free if fact.question and shot_of(fact) not in shown]
    prefix = next((question.prefix for question in members if question.prefix), "")
    lines = [
        (cloze(fact), completion(fact), fact) for fact in free if f"{cloze(fact)} {completion(fact)}\n" not in prefix
    ]  # fmt: skip
    if not prefix:  # prompts that are asked as they stand serve as examples of each other
        lines += [
            (prompt.query, prompt.answer, _as_fact(prompt)) for prompt in prompts
            if fold(prompt.subject) not in taken and "\n" not in prompt.query
        ]  # fmt: skip
    return lines


DEFAULT_SHOTS = 4
"""Worked examples a context, where the questions themselves have none."""


def contexts_of_asked(
    questions: Sequence[QuestionLine], known: Sequence[Context], count: int, chat: Chat | None = None
) -> list[Context]:
    """Contexts for new questions: those of their relation, without the examples that hold a question's own subject.

    known: the contexts of the finished run. A relation that it did not have gets them by the same rule as one without facts.
    """
    by_relation: defaultdict[tuple[str, bool], list[Context]] = defaultdict(list)
    for context in known:
        if context.question is None:
            by_relation[context.relation, context.chat].append(context)
    found: list[Context] = []
    done: set[tuple[str, bool]] = set()
    for question in questions:
        key = question.relation, question.chat
        own = by_relation.get(key, [])
        prefix, query = ("", "") if question.chat else split_prompt(question.query)
        manner = Manner.of(question, chat)
        if not own or prefix:
            before = prefix or question.prefix
            examples = examples_of(prefix) if prefix else _own(question)
            found += _distinct(question, before, examples, [], manner, count, query if prefix else None)
            continue
        if key not in done:
            done.add(key)
            found += own
        subject = fold(question.subject)
        if subject and any(_names(shot, subject) for context in own for shot in context.shots):
            found += [_without(context, question.id, subject, manner) for context in own]
    return found


def split_prompt(text: str) -> tuple[str, str]:
    """A prompt's own worked examples (all lines but those of the question, with their line ends) and its question."""
    lines = text.split("\n")
    last = 2 if lines[-1] == "A:" else 1
    head = "".join(f"{line}\n" for line in lines[:-last])
    return (head, "\n".join(lines[-last:])) if head.strip() else ("", text)


def examples_of(prefix: str) -> list[Shot]:
    """The worked examples of a prefix, a line (or a `Q: …` and an `A: …`) each, joined they are the prefix again.

    The parts of one are all but the last word, and that; for a line of `Q:` and `A:` the question and the answer.
    """
    examples: list[Shot] = []
    lines = prefix.removesuffix("\n").split("\n") if prefix else []  # other breaks are of the text
    while lines:
        line = lines.pop(0)
        if lines and line.startswith("Q:") and lines[0].startswith("A: "):
            examples.append((f"{line}\nA:", lines.pop(0).removeprefix("A: ")))
            continue
        head, _, last = line.rpartition(" ")
        examples.append((head, last) if head else (line, ""))
    return examples


def text_of(instruction: str, shots: Sequence[Shot]) -> str:
    """A sentence and worked examples, a line each."""
    lines = [f"{asked} {answer}\n" if answer else f"{asked}\n" for asked, answer in shots]
    return "".join([f"{instruction}\n" if instruction else "", *lines])


def _new_sets(
    lines: Sequence[tuple[str, str, Fact]], shots: int, count: int, seed: int, relation: str
) -> list[list[Shot]]:
    """Disjoint sets of worked examples from facts that are not asked."""
    left = list(lines)
    sets: list[list[Shot]] = []
    while len(sets) < count and len(left) >= shots:
        random = generator(seed, "contexts", relation, str(len(sets)))
        chosen = choose_shots([fact for _, _, fact in left], shots, random)
        subjects = {fold(fact.subject) for fact in chosen}
        text = {id(fact): (asked, answer) for asked, answer, fact in left}
        sets.append([text[id(fact)] for fact in chosen])
        left = [line for line in left if fold(line[2].subject) not in subjects]
    return sets


def _distinct(
    question: QuestionLine,
    prefix: str,
    own: Sequence[Shot],
    new: Sequence[list[Shot]],
    manner: Manner,
    count: int,
    query: str | None = None,
) -> list[Context]:
    """Up to `count` contexts of a question whose texts differ from the first and from each other. own: the examples of the first."""
    seen: set[str] = {prefix}
    found: list[Context] = []
    for kind, instruction, shots in _variants(own, new, manner):
        text = manner.text(instruction, shots)
        if len(found) < count and text not in seen:
            seen.add(text)
            found.append(
                Context(
                    relation=question.relation, question=question.id, context=len(seen) - 1, kind=kind, prefix=text,
                    query=query, shots=shots, instruction=instruction, chat=manner.chat,
                )
            )  # fmt: skip
    return found


def _variants(
    own: Sequence[Shot], new: Sequence[list[Shot]], manner: Manner
) -> Iterator[tuple[str, str, list[Shot]]]:
    """(kind, instruction, examples), best first."""
    yield from (("examples", "", shots) for shots in new)
    sets = [shots for shots in (list(own), *new) if shots]
    for shots in sets:
        yield "reversed", "", shots[::-1]
    for shots in sets:
        half = len(shots) // 2
        if half:
            yield "halved", "", shots[half:]
            yield "halved", "", shots[:half]
    for shots in sets:
        yield from (("turned", "", shots[start:] + shots[:start]) for start in range(1, len(shots)))
    if not sets:
        for start in range(DEFAULT_SHOTS):
            yield "general", "", list(manner.general[start::DEFAULT_SHOTS])
    for sentence in INSTRUCTIONS:
        yield "instruction", sentence, list(own)


def _names(shot: Shot, subject: str) -> bool:
    return f" {subject} " in f" {fold(' '.join(shot))} "


def _without(context: Context, question: str, subject: str, manner: Manner) -> Context:
    """The context for one question, without the examples that name its subject."""
    shots = [shot for shot in context.shots if not _names(shot, subject)]
    prefix = manner.text(context.instruction, shots)
    return context.model_copy(update={"question": question, "shots": shots, "prefix": prefix})


def _as_fact(prompt: QuestionLine) -> Fact:
    return Fact(prompt.relation, prompt.subject, prompt.answer, prompt.aliases, prompt.query)


def kinds(contexts: Sequence[Context]) -> Mapping[str, int]:
    """How many contexts of each kind, for the manifest."""
    return dict(sorted(Counter(context.kind for context in contexts).items()))
