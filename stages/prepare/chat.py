"""Questions as turns of a conversation, in the words of the model's own chat template.

What is said before a question (system prompt, worked examples as earlier turns) and after it, up to where the model begins
to answer, is rendered by transformers' `apply_chat_template`. The text holds its special tokens, so that it is encoded
without further ones; what the template makes of each question is held against the parts.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import psutil

from ghosttrack.common.config.schema import ModelConfig
from ghosttrack.common.errors import ConfigError
from ghosttrack.common.files import as_path, content_of
from ghosttrack.stages.prepare.prompts import QuestionLine, Shot

AUTO, NONE = "auto", "none"
MOST_SECONDS, MOST_BYTES = 5, 1 << 29
"""That a template may take for a question."""
_PLACE, _ANSWER = "⟦the question⟧", "⟦the answer⟧"
_MEND = "correct the template, name another with model.chat, or set model.chat: none"


class Frame(NamedTuple):
    """What stands before a question and after it. joint: what a template puts before an answer that is given."""

    prefix: str
    closing: str
    joint: str


def chat_of(tokenizer: Any, model: ModelConfig) -> Chat | None:
    """The conversation that questions are put in; None: they are put in none.

    Raises ConfigError for a template that fails, and for a system prompt that nobody would read.
    """
    named = tokenizer.chat_template if model.chat in (AUTO, NONE) else _template(model.chat)
    tokenizer.chat_template = default_template(named)
    if model.chat != NONE and tokenizer.chat_template:
        _refuse_endless(tokenizer)
        chat = Chat(tokenizer, model.system)
        in_parts = Chat(tokenizer, model.system, in_parts=True)
        if not chat.works and in_parts.works:  # of a model that sees pictures too
            return in_parts
        silent = Chat(tokenizer, "")
        # Some templates fail without a system prompt, and take one that says nothing.
        return silent if model.system is None and silent.works and not chat.works else chat
    if model.system is not None:
        why = "model.chat = none" if model.chat == NONE else "the model's tokenizer has no chat template"
        raise ConfigError(
            f"model.system is the system prompt of a chat, but {why}; name a template file with model.chat, or leave "
            "model.system out"
        )
    return None


def default_template(templates: str | dict[str, str] | None) -> str | None:
    """Of a tokenizer's templates that have names, for tools and the like, the one for what is only said."""
    if isinstance(templates, dict):
        return templates.get("default") or next(iter(templates.values()), None)
    return templates


def _template(name: str) -> str:
    try:
        text = content_of(as_path(name)).decode()
    except (OSError, UnicodeDecodeError) as error:
        if name.startswith("sha256:"):  # of a run that was opened by its name
            raise ConfigError(
                "the chat template of this run is a file, and nothing here says where it lies; open the run by the path of its "
                "configuration file"
            ) from error
        raise ConfigError(
            f"model.chat = {name!r}: {_why(error)}; give auto, none or the path of a chat template"
        ) from error
    if not text.strip():
        raise ConfigError(f"model.chat = {name!r} is an empty file; give auto, none or a chat template")
    return dated(text)


def dated(template: str) -> str:
    """A template that says which day it is, with today for ever: a prompt is the same on the day on which more is asked."""
    now = datetime.now()
    return re.sub(
        r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", lambda found: repr(now.strftime(found[2])), template
    )


def _refuse_endless(tokenizer: Any) -> None:
    """Raises ConfigError for a template that does not end, or takes all memory.

    It is a program, which may spend either inside one operation; so it is tried in a process that the kernel ends.
    """
    turns = [{"role": role, "content": _PLACE} for role in ("system", "user", "assistant", "user")]
    child = os.fork()
    if not child:
        try:
            room = psutil.Process().memory_info().vms + MOST_BYTES
            resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
            resource.setrlimit(resource.RLIMIT_AS, (room, room))
            for trial in (turns, turns[1:], turns[3:]):
                with contextlib.suppress(Exception):  # what else is wrong with it is told where it is used
                    try:
                        tokenizer.apply_chat_template(trial, add_generation_prompt=True, tokenize=False)
                    except MemoryError:
                        os._exit(1)
        finally:
            os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise ConfigError(
            f"the chat template takes more than {MOST_SECONDS} s or {MOST_BYTES >> 20} MiB for a question; {_MEND}"
        )


def put(chat: Chat | None, questions: Sequence[QuestionLine], model: ModelConfig) -> list[QuestionLine]:
    """Questions as they are asked: as turns of the chat, where there is one; sentences to complete as they stand.

    Raises ConfigError where a chat is asked for and nothing is a question.
    """
    found = [chat.put(question) if chat and question.asks else question for question in questions]
    if (model.chat not in (AUTO, NONE) or model.system is not None) and not any(one.chat for one in found):
        key = "chat" if model.chat not in (AUTO, NONE) else "system"
        raise ConfigError(
            f"model.{key} is given, but data.questions has sentences to complete and no questions; give questions, such as "
            f"data.questions: factbook-questions, or leave model.{key} out"
        )
    return found


class Chat:
    """A chat template with its system prompt."""

    def __init__(self, tokenizer: Any, system: str | None, *, in_parts: bool = False) -> None:
        """in_parts: what is said is given as a list of parts, of which one is a text."""
        self._tokenizer = tokenizer
        self._system = system
        self._in_parts = in_parts
        self._frames: dict[tuple[tuple[Shot, ...], str], Frame] = {}

    @property
    def works(self) -> bool:
        """Whether the template takes a question, and gives it back."""
        return self._takes(self._turns([], _PLACE), gives=_PLACE)

    @property
    def opens(self) -> bool:
        """Whether the template writes what the model's turn begins with, where it is to answer. Raises ConfigError."""
        turns = self._turns([], _PLACE)
        text = self._render(turns)
        return text != self._render(turns, asks=False) or not self._before_answer(turns, text).strip()

    def frame(self, shots: Sequence[Shot], instruction: str = "") -> Frame:
        """What stands around a question after worked examples, and after a sentence that leads to it. Raises ConfigError."""
        key = tuple((asked, answer) for asked, answer in shots), instruction
        if key not in self._frames:
            turns = self._turns(shots, _leading(instruction) + _PLACE)
            text = self._render(turns)
            prefix, found, closing = text.rpartition(_PLACE)
            if not found:
                raise ConfigError(f"the chat template drops the question: it renders {text[:80]!r}; {_MEND}")
            self._refuse_dropped(prefix, shots)
            joint = self._before_answer(turns, text)
            self._frames[key] = Frame(prefix, closing, joint if joint.isspace() else "")
        return self._frames[key]

    def prefix(self, instruction: str, shots: Sequence[Shot]) -> str:
        return self.frame(shots, instruction).prefix

    def put(self, question: QuestionLine) -> QuestionLine:
        """The question as a turn after its worked examples. Raises ConfigError."""
        said = question.question.strip()
        frame = self.frame(question.shots)
        text = self._render(self._turns(question.shots, said))
        query = text[len(frame.prefix) : len(text) - len(frame.closing)]
        # What a template does to line breaks and spaces is what the model reads.
        if text != frame.prefix + query + frame.closing or query.split() != said.split():
            raise ConfigError(
                f"the chat template does not give back the question {said[:80]!r} ({question.id}), but {text[-160:]!r}; {_MEND}"
            )
        joint = (
            "" if question.given.response is None or question.given.response[:1].isspace() else frame.joint
        )
        return replace(question, prefix=frame.prefix, query=query, closing=frame.closing + joint)

    def _turns(self, shots: Sequence[Shot], said: str) -> list[dict[str, str]]:
        turns = [] if self._system is None else [{"role": "system", "content": self._system}]
        for asked, answer in shots:
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return [*turns, {"role": "user", "content": said}]

    def _before_answer(self, turns: list[dict[str, str]], text: str) -> str:
        """What the template puts between what it makes of some turns and an answer that is given."""
        turns = [*turns, {"role": "assistant", "content": _ANSWER}]
        if not self._takes(turns, asks=False):  # of a single turn
            return ""
        given = self._render(turns, asks=False)
        before, found, _ = given.rpartition(_ANSWER)
        return before.removeprefix(text) if found and before.startswith(text) else ""

    def _apply(self, turns: list[dict[str, str]], asks: bool = True) -> str:
        said: list[dict[str, Any]] = [*turns]
        if self._in_parts:
            said = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        return str(self._tokenizer.apply_chat_template(said, add_generation_prompt=asks, tokenize=False))

    def _render(self, turns: list[dict[str, str]], *, asks: bool = True) -> str:
        try:
            return self._apply(turns, asks)
        except Exception as error:  # a program of somebody else's, in a language of its own
            mend = _MEND
            if self._system is not None and turns[0]["role"] == "system" and self._takes(turns[1:]):
                mend = "it takes no system prompt: leave model.system out"
            elif self._system is None and self._takes([{"role": "system", "content": _PLACE}, *turns]):
                mend = "it needs a system prompt: give one with model.system"
            elif len(turns) > 1 and self._takes(turns[-1:]):
                mend = "it takes no earlier turns, which worked examples are: set data.shots: 0 and tracking.contexts: 0"
            raise ConfigError(f"the chat template fails: {_why(error)}; {mend}") from error

    def _takes(self, turns: list[dict[str, str]], gives: str = "", asks: bool = True) -> bool:
        try:
            return gives in self._apply(turns, asks)
        except Exception:  # whatever it is
            return False

    def _refuse_dropped(self, prefix: str, shots: Sequence[Shot]) -> None:
        """Raises ConfigError where the template leaves out something that was said before the question."""
        prefix = " ".join(prefix.split())
        if self._system is not None and " ".join(self._system.split()) not in prefix:
            raise ConfigError(
                f"the chat template drops the system prompt {self._system[:60]!r}; leave model.system out"
            )
        start = 0
        for text in (" ".join(text.split()) for shot in shots for text in shot):
            place = prefix.find(text, start)
            if place < 0:
                raise ConfigError(
                    f"the chat template drops {text[:60]!r} of a worked example; set data.shots: 0, or name another template "
                    "with model.chat"
                )
            start = place + len(text)


def _leading(instruction: str) -> str:
    return f"{instruction}\n" if instruction else ""


def _why(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:200]
