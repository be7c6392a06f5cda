"""Interventions in the questions of a run, by its published files: what the unit, the command and the public API ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ghosttrack.common.config.schema import Config
from ghosttrack.common.errors import DataError, NumericError
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.candidates import CANDIDATES, rank_of
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.questions import ASKED, QUESTIONS, in_chat, of_new
from ghosttrack.common.formats.saes import SAE
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.models.interventions import Edit
from ghosttrack.common.models.language_model import LanguageModel, shared_language_model
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.track.account import Head, of_heads
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.labels import judge
from ghosttrack.stages.track.question_bench import QuestionBench, Track
from ghosttrack.stages.track.questions import read_questions
from ghosttrack.stages.track.rereading import Rereader, text_of

LARGEST = 1_000_000
"""Factor or value: of far larger ones a norm's squares overflow, and all logits are 0."""
OF_CANDIDATES = ("token", "logit", "change", "control_change")
Find = Callable[[File], Path]
"""The path of a published file."""


@dataclass
class Interventions:
    """A run's model, SAEs and questions; `bench` for a question, `intervene` for the whole result."""

    config: Config
    model: LanguageModel
    saes: list[JumpReLUSAE]
    layers: list[int]
    questions: list[dict[str, Any]]
    generations: list[dict[str, Any]]
    tracks: Path
    candidates: dict[str, Any]
    reader: Rereader
    _ends: dict[bool, Ends] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, model: Path, find: Find, config: Config) -> "Interventions":
        """model: the folder of its snapshot."""
        loaded = shared_language_model(model, **config.model.loading)
        layers, width = config.layers, loaded.d_model
        saes = [JumpReLUSAE.load(find(SAE.of(i)), d_model=width, layer=i) for i in layers]
        return cls(
            config, loaded, saes, layers, read_questions(find(QUESTIONS)), GENERATIONS.read(find(GENERATIONS)),
            find(TRACKS), CANDIDATES.read(find(CANDIDATES)), Rereader(loaded),
        )  # fmt: skip

    def of_asked(self, find: Find) -> "Interventions":
        """The same model and SAEs at new questions."""
        return replace(
            self,
            questions=read_questions(find(ASKED)),
            generations=GENERATIONS.read(find(of_new(GENERATIONS))),
            candidates=CANDIDATES.read(find(of_new(CANDIDATES))),
            tracks=find(of_new(TRACKS)),
        )

    def number(self, name: str) -> int:
        """The line of a question, by its id or its number. Raises DataError."""
        names = [each["id"] for each in self.generations]
        names += map(str, range(len(names)))
        if name in names:
            return names.index(name) % len(self.generations)
        raise DataError(f"there is no question {name!r}; generations.jsonl lists the ids, lines are 0 to {len(self.generations) - 1}")  # fmt: skip

    def bench(self, number: int) -> QuestionBench:
        """The prompt of a question with the tracks at its subject and at its last token. number: its line, from 0."""
        rows = TRACKS.read(
            self.tracks, where={"question": range(number, number + 1), "position": range(-1, 1)}
        )
        mine = (self.candidates["question"] == number) & (self.candidates["position"] == 0)
        tokens = self.candidates["token"][mine].astype(np.int64)
        k = self.config.tracking.top_k_features
        return QuestionBench(
            self.model, self.saes, self.layers, self.questions[number], rows, tokens, k, self.reader
        )

    def intervene(
        self,
        number: int,
        tracks: Sequence[int] = (),
        latents: Sequence[tuple[int, int]] = (),
        candidate: str | None = None,
        *,
        position: int = 0,
        factor: float = 0.0,
        at_birth: bool = False,
        value: float | None = None,
        count: int = 8,
    ) -> dict[str, Any]:
        """Take tracks at a position, latents (layer, latent), or the `count` tracks that speak most for a candidate out of the
        model: what it then says, and every candidate's logit, beside a control of the same size. Raises DataError, NumericError where the logits overflow."""
        if not (tracks or latents or candidate is not None):
            raise DataError("nothing is taken out; name tracks, latents or a candidate")
        if wrong := [pair for pair in latents if not isinstance(pair, tuple | list) or len(pair) != 2]:
            raise DataError(
                f"a latent is named by its layer and its number, as in (12, 345), not by {wrong[0]!r}"
            )
        whole = [position, *tracks, *(part for pair in latents for part in pair)]
        _refuse_no_numbers(whole, [factor] if value is None else [factor, value])
        bench = self.bench(number)
        chosen = [(position, track) for track in tracks]
        if candidate is not None:
            chosen += self._speaking_for(bench, candidate, count)
        edits = bench.without(chosen, factor=factor, at_birth=at_birth)
        control = bench.control(chosen, factor=factor, at_birth=at_birth)
        control = control or [self._other(bench, edit) for edit in edits]
        for layer, latent in latents:
            alone = bench.latent(layer, latent, position, value)
            edits += alone
            control += [self._other(bench, edit) for edit in alone]
        outcome, beside = bench.outcomes([edits, control])
        if not np.isfinite([outcome.logits, beside.logits]).all():
            raise NumericError(
                f"with so much left of latents the model's numbers overflow in {self.model.unembedding.dtype}: its logits are not finite; give "
                "a smaller factor or value"
            )
        changes = (each.tolist() for each in (outcome.logits, outcome.change, beside.change))
        candidates = zip(self._texts(bench), *changes, strict=True)
        generation, question = self.generations[number], self.questions[number]
        said = {
            "": generation["answer"],
            "new_": bench.answer(edits, self.ends(question), self.config.tracking.max_new_tokens),
            "control_": bench.answer(control, self.ends(question), self.config.tracking.max_new_tokens),
        }
        return {
            "question": generation["id"],
            "query": question["query"],
            "intervention": _in_words(chosen, latents, factor, at_birth, value),
            **{f"{key}answer": answer for key, answer in said.items()},
            **{f"{key}judged": self._judged(answer, question) for key, answer in said.items()},
            "drop": outcome.drop,
            "control_drop": beside.drop,
            "candidates": [dict(zip(OF_CANDIDATES, each, strict=True)) for each in candidates],
        }

    @torch.inference_mode()
    def heads(self, number: int, position: int) -> NDArray[np.float32]:
        """What every attention head wrote to the logits of a question's candidates at a position (`of_heads`). Raises
        ModelMismatchError where a block cannot be taken apart."""
        mine = (self.candidates["question"] == number) & (self.candidates["position"] == max(position, 0))
        candidates = torch.from_numpy(self.candidates["token"][mine].astype(np.int64))
        said = self.generations[number]["token_ids"][: max(position, 0)]
        text = text_of(self.model, self.questions[number], said, np.array([position]))
        head, writes = Head.of(self.model), self.reader.writes([text], by_head=True)
        return of_heads(writes, candidates, self.layers, head, self.model.final_norm).numpy()

    def ends(self, question: dict[str, Any]) -> Ends:
        """What ends an answer to a question."""
        chat = in_chat(question)
        if chat not in self._ends:
            self._ends[chat] = Ends(self.model, self.config.tracking.stops(chat), self.model.end_tokens()[0])
        return self._ends[chat]

    def _speaking_for(self, bench: QuestionBench, candidate: str, count: int) -> list[tuple[int, int]]:
        """The tracks whose absence would lower a candidate most against the best other one."""
        rank = rank_of(candidate, self._texts(bench))
        effects = bench.effects((rank, 0 if rank else 1))
        return [
            (int(bench.positions[effects.problem[one]]), int(effects.number[one]))
            for one in effects.strongest(count)
        ]

    def _texts(self, bench: QuestionBench) -> list[str]:
        """Of the candidates, by rank."""
        return [self.model.tokenizer.decode([token]) for token in bench.candidates.tolist()]

    def _other(self, bench: QuestionBench, edit: Edit) -> Edit:
        """The same change to the latent that is nearest in activation at the place, or to the next one where none is."""
        at = self.layers.index(edit.layer)
        acts = self.saes[at].encode(bench.states(edit.layer, edit.place))
        own = float(acts[edit.latent])
        distance = torch.where(acts > 0, (acts - own).abs(), torch.inf)
        distance[edit.latent] = torch.inf
        latent = int(distance.argmin()) if bool(distance.isfinite().any()) else (edit.latent + 1) % len(acts)
        return edit._replace(latent=latent, value=float(acts[latent]) + edit.value - own)

    def _judged(self, answer: str, question: dict[str, Any]) -> str:
        matching, choices = self.config.data.matching, question.get("choices") or ()
        judgement = judge(answer, question["aliases"], question["query"], matching, choices)
        return {0: "right", 1: "wrong", None: judgement.excluded or "not told"}[judgement.label]


def _in_words(
    tracks: Sequence[Track],
    latents: Sequence[tuple[int, int]],
    factor: float,
    at_birth: bool,
    value: float | None,
) -> str:
    """What is otherwise than in the model as it is."""
    own = ", ".join(f"track {track} at position {place}" for place, track in tracks)
    others = ", ".join(f"latent {latent} of layer {layer}" for layer, latent in latents)
    left = f"with {factor:g} times " if factor else "without "
    of_latents = f"without {others}" if value is None else f"with {others} at {value:g}"
    parts = [own and left + own + at_birth * ", at birth alone", others and of_latents]
    return "; ".join(filter(None, parts))


def _refuse_no_numbers(whole: Sequence[Any], sizes: Sequence[Any]) -> None:
    """Raises DataError for a position, track or latent that is no number of one, and for a size beyond all sense."""
    for each in whole:
        if not isinstance(each, Integral) or isinstance(each, bool) or abs(int(each)) >= 2**31:
            raise DataError(f"positions, tracks and latents are whole numbers, not {each!r:.60}")
    for size in sizes:
        if not (isinstance(size, Real) and abs(float(size)) <= LARGEST):
            raise DataError(f"a factor or value is a number of at most {LARGEST:,}, not {size!r:.60}")
