"""A question of a run with its tracks, ready to be intervened in: what the stage's unit, its command and the public API
share. Reads what a run has published; writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.errors import DataError
from ghosttrack.common.maths.arrays import Ints, Singles
from ghosttrack.common.models.interventions import Bench, Edit, gradients
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.track.causes import Effects, Node, controls_of, edits_of, nodes_of, track_effects
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.nodes import Nodes
from ghosttrack.stages.track.rereading import Rereader, text_of
from ghosttrack.stages.track.speak import unfold

Track = tuple[int, int]
"""Position and number."""


@dataclass(frozen=True)
class Outcome:
    """What the model says after an intervention. logits: [m], of the candidates for the first answer token; change: [m],
    against the model as it is; token: what it now says first; drop: of logit(emitted) - logit(strongest rival)."""

    logits: Singles
    change: Singles
    token: int
    drop: float


class QuestionBench:
    """The prompt of one question: tracks at its subject (-1) and at its last token (0)."""

    def __init__(
        self,
        model: LanguageModel,
        saes: Sequence[JumpReLUSAE],
        layers: Sequence[int],
        question: Mapping[str, Any],
        rows: Mapping[str, NDArray[Any]],
        candidates: Ints,
        k: int,
        reader: Rereader,
    ) -> None:
        """saes: of the tracked layers; question: of questions.jsonl; rows: the question's of tracks.parquet; candidates:
        tokens of position 0 by rank, the emitted one first; reader: shares prefixes between questions of a model."""
        early = rows["position"] <= 0
        own = {name: values[early] for name, values in rows.items()}
        self.positions = np.unique(np.append(own["position"], 0)).astype(np.int64)
        text = text_of(model, question, [], self.positions)
        self.places: list[int] = text.chosen.tolist()
        number = int(rows["question"][0]) if len(rows["question"]) else 0
        owner = np.stack([np.full(len(self.positions), number), self.positions], axis=1)
        self.nodes = Nodes.of(own, owner, layers, k)
        self.model, self.saes, self.layers, self.candidates = model, saes, list(layers), candidates
        self.prefix = reader.prefix([text])
        on_device = {layer: sae.to(model.device) for layer, sae in zip(layers, saes, strict=True)}
        self.bench = Bench(model, on_device, text.tokens, min(self.places), self.prefix)

    def without(self, tracks: Sequence[Track], *, factor: float = 0.0, at_birth: bool = False) -> list[Edit]:
        """Edits that take tracks out, over their lives or at their births, or leave `factor` of them. Raises DataError for a track that is not there."""
        chosen = self._nodes(tracks, at_birth)
        left = [factor * float(self.nodes.active.activations[at]) for at in chosen]
        return edits_of(self.nodes, self.layers, self.places, zip(chosen, left, strict=True))

    def control(self, tracks: Sequence[Track], *, factor: float = 0.0, at_birth: bool = False) -> list[Edit]:
        """Edits that take as much of other latents at the same places as taking tracks out, or all but `factor` of them, takes."""
        others = controls_of(self.nodes, self._nodes(tracks, at_birth), self.saes, self._units, factor)
        return edits_of(self.nodes, self.layers, self.places, others)

    def _nodes(self, tracks: Sequence[Track], at_birth: bool) -> list[Node]:
        return nodes_of(self.nodes, [self._known(track) for track in tracks], at_birth=at_birth)

    def latent(self, layer: int, latent: int, position: int = 0, value: float | None = None) -> list[Edit]:
        """An edit of one latent at a position: to a value, or out (None), for which it must be active."""
        if layer not in self.layers:
            raise DataError(f"layer {layer} is not tracked; tracked are {', '.join(map(str, self.layers))}")
        sae = self.saes[self.layers.index(layer)]
        if not 0 <= latent < sae.d_hidden:
            raise DataError(f"the SAE of layer {layer} has latents 0 to {sae.d_hidden - 1}, not {latent}")
        place = self.places[self._problem(position)]
        state = self.states(layer, place)
        if value is None and float(sae.encode(state)[latent]) == 0:
            raise DataError(
                f"latent {latent} of layer {layer} is not active at position {position}: there is nothing to take out; "
                "give a value to add it"
            )
        return [Edit(layer, place, latent, value or 0.0)]

    def states(self, layer: int, place: int) -> Tensor:
        """The model's own state at a token, [d_model] float32 on the CPU."""
        return self.bench.states(layer, place).float().cpu()

    def effects(self, ranks: tuple[int, int] = (0, 1)) -> Effects:
        """Predicted effects of every track on the logit of one candidate less that of another; `problem` numbers
        `positions`."""
        emitted, rival = (int(self.candidates[rank]) for rank in ranks)
        first = min(self.places)
        slopes = gradients(self.model, self.layers, self.bench.tokens, first, emitted, rival, self.prefix)
        at = torch.tensor([place - first for place in self.places])
        return track_effects(self.nodes, slopes[:, at], self.saes, self._units)

    @cached_property
    def _units(self) -> list[Tensor | float]:
        """Of each layer the unit of its SAE's thresholds at each problem."""
        return [
            sae.own_unit(torch.stack([self.states(layer, place) for place in self.places]))
            if sae.own_scale
            else 1.0
            for layer, sae in zip(self.layers, self.saes, strict=True)
        ]

    def outcomes(self, interventions: Sequence[Sequence[Edit]]) -> list[Outcome]:
        """What each intervention does, in batches."""
        before = self.bench.logits[self.candidates]
        found = []
        for logits in self.bench.run(interventions):
            own = logits[self.candidates]
            drop = float((before[0] - before[1]) - (own[0] - own[1]))
            found.append(Outcome(own.numpy(), (own - before).numpy(), int(logits.argmax()), drop))
        return found

    def answer(self, edits: Sequence[Edit], ends: Ends, max_new_tokens: int) -> str:
        """The whole greedy answer after an intervention in the prompt."""
        read = self.bench.rows(edits or [self._nothing()])
        tokens = [token for token, _ in unfold(self.model, read, ends, max_new_tokens)]
        return str(self.model.tokenizer.decode(tokens)).strip()

    def _nothing(self) -> Edit:
        """An edit that changes nothing: a latent given the activation that it has."""
        sae, place = self.saes[-1], self.places[-1]
        value = sae.encode(self.states(self.layers[-1], place))[0]
        return Edit(self.layers[-1], place, 0, float(value))

    def _problem(self, position: int) -> int:
        if position not in self.positions:
            raise DataError(
                f"there is nothing tracked at position {position} of the prompt; tracked are "
                f"{', '.join(map(str, self.positions.tolist()))} (-1 the subject, 0 the last token)"
            )
        return int(np.flatnonzero(self.positions == position)[0])

    def _known(self, track: Track) -> Track:
        position, number = track
        problem = self._problem(position)
        if not bool((self.nodes.track[problem] == number).any()):
            raise DataError(
                f"there is no track {number} at position {position} of this question; tracks.parquet of this run lists them"
            )
        return problem, number
