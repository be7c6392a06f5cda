"""One answered question: what was asked, said and right, its tracks, and a picture of how the answer came about."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ghosttrack.common.engine.progress import format_probability
from ghosttrack.common.errors import DataError, MissingInputError
from ghosttrack.common.formats.account import ACCOUNT, SOURCES, difference
from ghosttrack.common.formats.candidates import CANDIDATES, rank_of
from ghosttrack.common.formats.file import Table, only
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.origins import BIRTHS, ORIGINS, SHARES
from ghosttrack.common.formats.tracks import TRACKS, first_row

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ghosttrack.api.run import Run
    from ghosttrack.api.without import Without
    from ghosttrack.common.formats.answers import Answer
    from ghosttrack.stages.track.intervening import Find, Interventions

UNSCORED = {
    "empty": "the answer says nothing",
    "refusal": "the model does not answer",
    "no_features": "none of it was tracked",
}
"""Why an answer has no score, in words."""
PROMPT = 0
"""The position at which the first answer token is predicted."""


class Question:
    """A question of a run. Made by `run.question(id)`. find: where the tables of answered questions lie."""

    def __init__(
        self, run: Run, find: Find, number: int, answer: Answer, record: Mapping[str, Any] | None
    ) -> None:
        self._run, self._find, self._number = run, find, number
        self.record = record
        """What detection says of it (a line of hallucination_scores.json), or None."""
        self._answer = answer

    @property
    def id(self) -> str:
        return self._answer.id

    @property
    def text(self) -> str:
        """The question, without worked examples."""
        return self._answer.question

    @property
    def prompt(self) -> str:
        """All that the model read."""
        return self._answer.prompt

    @property
    def answer(self) -> str:
        """What the model said."""
        return self._answer.answer

    @property
    def gold(self) -> str | None:
        """A right answer, where one is known."""
        return self._answer.gold or None

    @property
    def wrong(self) -> bool | None:
        """Whether the answer is wrong; None where nobody knows."""
        return None if self._answer.label is None else bool(self._answer.label)

    @property
    def probability(self) -> float | None:
        """How likely the answer is wrong, calibrated; None where detection has no score."""
        return None if self.record is None else self.record["score"]

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of that probability."""
        found = None if self.record is None else self.record.get("interval")
        return None if found is None else (found[0], found[1])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {_short(self.text)!r} → {_short(self.answer)!r}{self._verdict()}>"

    @property
    def sentence(self) -> str:
        """One plain sentence: asked, said, right, how sure the detector is."""
        text = f"Asked “{self.text}”, the model says “{self.answer}”"
        if self.wrong is not None:
            text += ", which is wrong" if self.wrong else ", which is right"
            if self.wrong and self.gold:
                text += f" (right: {self.gold})"
        return f"{text}. {self._judgement()}".strip()

    @property
    def reason(self) -> str | None:
        """Where a wrong answer of a run came from, in a sentence; None of others."""
        return self._reason.get("sentence")

    @property
    def _reason(self) -> Mapping[str, Any]:
        return self._run._reasons.get(self._number, {})

    def _verdict(self) -> str:
        found = "" if self.wrong is None else ", wrong" if self.wrong else ", right"
        return (
            found
            if self.probability is None
            else f"{found}, {format_probability(self.probability)} likely wrong"
        )

    def _judgement(self) -> str:
        if self.probability is None or self.interval is None:
            reason = UNSCORED.get((self.record or {}).get("excluded") or "")
            return f"It has no score: {reason}." if reason else ""
        low, high = self.interval
        return f"The detector takes it for wrong with probability {self.probability:.2f} [{low:.2f}, {high:.2f}]."

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """A row an answer token: text, logprob and entropy (nats)."""
        import pandas as pd

        found = self._answer
        return pd.DataFrame(
            {"text": found.tokens, "logprob": found.logprobs, "entropy": found.entropies},
            index=pd.RangeIndex(1, len(found.tokens) + 1, name="position"),
        )

    @cached_property
    def tracks(self) -> pd.DataFrame:
        """A row an active latent: position, layer, latent, track, activation, link, posterior, existence, effect (on the
        logit of the emitted token less its rival's), label (tokens that the latent is active on; missing where none tell it), promoted
        (tokens that it speaks for), and where its activation came from, in shares that add up to one (`origins.parquet`); birth: what
        gave most of one that begins a track."""
        table = self._rows(TRACKS)
        if len(table) and (origins := self._file(ORIGINS)):
            first = first_row(self._find(TRACKS), self._number)
            shares = ORIGINS.rows(origins, range(first, first + len(table))).to_pandas()
            table[list(SHARES)] = shares[list(SHARES)].astype("float32")
            table["birth"] = [None if birth < 0 else BIRTHS[birth] for birth in shares["birth"]]
        if self._run.has(LATENTS.unit):
            keys = list(zip(table["layer"].tolist(), table["latent"].tolist(), strict=True))
            latents = self._run.latents.loc[keys]
            table["label"] = latents["label"].tolist()
            table["promoted"] = [
                " ".join(token.strip() for token in found[:3]) for found in latents["promoted"]
            ]
        return table

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """A row a (position, rank): token, text, logprob of the model's likeliest next tokens, the emitted one first."""
        table = self._rows(CANDIDATES)
        texts = self._run._token_texts(table["token"].tolist())
        table.insert(3, "text", [texts.get(token, "") for token in table["token"].tolist()])
        return table

    @cached_property
    def lens(self) -> pd.DataFrame:
        """A row a (position, layer) of the logit lens: logprob of the emitted token, rival_logprob, entropy, top, rank."""
        return self._rows(LENS)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """A row a (position, layer): active latents, births, deaths, error, and the competition of the candidates."""
        return self._rows(LAYERS)

    def _rows(self, table: Table) -> pd.DataFrame:
        own = only(range(self._number, self._number + 1))
        rows = table.frame(self._find(table), where=own)
        return rows.drop(columns="question").reset_index(drop=True)

    def account(
        self, candidate: int | str = 0, other: int | str = 1, *, position: int = PROMPT
    ) -> pd.DataFrame:
        """Why the model prefers one candidate to another, layer by layer: `total`, the lens' logit of the one less that of the
        other, as what the state holds (constant, tracks, untracked, sae_bias, sae_error) and as what came about since the layer before
        (constant, carried, attention by source and bias, mlp); either adds up to it (`account.parquet`). candidate, other: by rank in
        `candidates`, or by text. position: as there; −1: the subject's last token."""
        import pandas as pd

        rows = ACCOUNT.read(self._find(ACCOUNT), where=only(range(self._number, self._number + 1)))
        own = {name: values[rows["position"] == position] for name, values in rows.items()}
        parts = difference(own, *self._ranks(candidate, other, position))
        return pd.DataFrame(parts, index=pd.Index(own["layer"], name="layer"))

    def heads(
        self, candidate: int | str = 0, other: int | str = 1, *, position: int = PROMPT
    ) -> pd.DataFrame:
        """The part of `account` that attention wrote, by head: a row a (block, head), a column a source, in logits before a soft
        cap, read at the first tracked layer that is not before the block. Reads the question again; the first call loads the model.
        Raises ModelMismatchError for a model whose blocks cannot be taken apart."""
        import pandas as pd

        first, second = self._ranks(candidate, other, position)
        of_all = self._interventions.heads(self._number, position)
        found = of_all[..., first] - of_all[..., second]
        blocks = pd.MultiIndex.from_product(
            [range(len(found)), range(found.shape[1])], names=["block", "head"]
        )
        return pd.DataFrame(found.reshape(-1, len(SOURCES)), index=blocks, columns=list(SOURCES))

    def _ranks(self, candidate: int | str, other: int | str, position: int) -> tuple[int, int]:
        """Of two candidates at a position. Raises DataError."""
        tracked = self.layers["position"].unique().tolist()
        if position not in tracked:
            raise DataError(
                f"position {position} of {self.id} is not tracked; tracked are {', '.join(map(str, tracked))}"
            )
        there = self.candidates["position"] == max(position, 0)
        texts = self.candidates["text"][there].tolist()
        return rank_of(candidate, texts), rank_of(other, texts)

    def _file(self, table: Table) -> Path | None:
        try:
            return self._find(table)
        except MissingInputError:
            return None

    def without(
        self,
        *tracks: int,
        latents: Sequence[tuple[int, int]] = (),
        candidate: str | None = None,
        position: int = 0,
        factor: float = 0.0,
        at_birth: bool = False,
    ) -> Without:
        """Take tracks at a position, latents (layer, latent), or the tracks that speak most for a candidate out of the model,
        and let it go on. factor: what is left of them; at_birth: only where they begin. The first call loads the model.

        Raises DataError for a track or latent that is not active there, MissingInputError where the run is not that far.
        """
        from ghosttrack.api.without import Without

        result = self._interventions.intervene(self._number, tracks, latents, candidate, position=position, factor=factor,
                                at_birth=at_birth)  # fmt: skip
        return Without(result)

    @property
    def _interventions(self) -> Interventions:
        return self._run._interventions

    def _standing(self, position: int) -> NDArray[Any] | None:
        """The lens' logit of every candidate at a position, [n_layers, m]; None where there is no account."""
        path, names = self._file(ACCOUNT), ["position", "logit"]
        if path is None:
            return None
        rows = ACCOUNT.read(path, names, where=only(range(self._number, self._number + 1)))
        return rows["logit"][rows["position"] == position]

    def plot(self, position: int | None = None) -> Figure:
        """How the answer came about at a position, over the layers. 0: where its first token is predicted; None: where a wrong
        answer parts from every right one, as far as that is known."""
        from ghosttrack.api.picture import draw

        return draw(self, self._reason.get("position", PROMPT) if position is None else position)

    def _repr_html_(self) -> str:
        import matplotlib.pyplot as plt

        figure, picture = self.plot(), io.BytesIO()
        figure.savefig(picture, format="png", dpi=110)
        plt.close(figure)
        source = base64.b64encode(picture.getvalue()).decode()
        words = "".join(f"<p>{html.escape(each)}</p>" for each in (self.sentence, self.reason) if each)
        return (
            f'<div>{words}<img alt="{html.escape(self.sentence)}" src="data:image/png;base64,{source}"></div>'
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
