"""`hypothesis_trajectories.json`: a question's strongest tracks, their labels, the competition, links over the answer."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ghosttrack.common.formats.file import Json, Record

TRAJECTORIES = Json(
    "hypothesis_trajectories.json",
    "track/shown",
    "a question's strongest tracks, their labels, the competition, links over the answer; "
    "[schema](hypothesis_trajectories.schema.json)",
    version=2,
    indent=None,
)
Count = Annotated[int, Field(ge=0)]


class Continued(Record):
    id: int
    overlap: float = Field(description="Cosine of the two tracks' activations over (layer, latent).")


class Track(Record):
    id: Count = Field(description="As in tracks.parquet: within question and position.")
    birth: int = Field(description="The first layer at which it is seen.")
    death: int = Field(description="The last layer at which it is seen.")
    existence: float = Field(
        ge=0, le=1, description="Mean probability that its latents belong to a lasting feature."
    )
    effect: float = Field(
        description="Direct effect of its last latent on the logit of the emitted token less that of its strongest rival."
    )
    mean_link: float | None = Field(description="Mean decoder cosine of its links; null where it has none.")
    promoted: list[str] = Field(description="Tokens whose logits its most active latent raises most.")
    cluster: int | None = Field(description="Semantic cluster of its most active latent.")
    continues: Continued | None = Field(description="The track at the position before that it goes on from.")
    path: list[tuple[int, int, float, float]] = Field(
        min_length=1, description="layer, latent, activation, posterior of the link to it (or of the birth)."
    )


class Position(Record):
    position: int = Field(
        ge=-1, description="−1 the subject's last token, 0 the last prompt token, 1… the answer's tokens."
    )
    token: str | None = Field(description="The answer's token; null in the prompt.")
    candidates: list[tuple[str, float]] = Field(
        description="The model's likeliest next tokens and their log-probabilities (nats), likeliest first, the emitted one "
        "first of all; at position −1 those for the first answer token."
    )
    margin: list[float] = Field(
        description="By layer: direct effect of the active latents on the emitted token's logit less that on the best other "
        "candidate's."
    )
    leader: list[Count] = Field(
        description="By layer: rank among the candidates of the one with the largest direct effect."
    )
    commitment: int | None = Field(
        description="The layer from which on the emitted token leads; null where it does not lead at the last layer."
    )
    lead_changes: Count
    late_override: bool = Field(
        description="Whether the emitted token takes the lead for good in the last quarter of the layers."
    )
    tracks: list[Track] = Field(description="The strongest by total activation, strongest first.")
    tracks_left_out: Count


class QuestionTrajectories(Record):
    question: Count = Field(description="Line of generations.jsonl, from 0.")
    id: str
    relation: str
    subject: str
    prompt: str
    answer: str
    gold: str
    label: Literal[0, 1] | None = Field(description="1 wrong, 0 right, null excluded.")
    excluded: str | None
    positions: list[Position]


class Trajectories(Record):
    schema_version: Literal[2]
    layers: list[int]
    associator: Literal["nearest", "marginals", "hypotheses"]
    questions: list[QuestionTrajectories]


def write(path: Path, head: Mapping[str, Any], questions: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Write a question at a time. head: all but the questions. Returns how many tracks it names and leaves out."""
    named = left_out = 0
    with path.open("w", encoding="utf-8") as file:
        start = json.dumps({"schema_version": TRAJECTORIES.version, **head}, ensure_ascii=False)
        file.write(start[:-1] + ', "questions": [')
        for number, record in enumerate(questions):
            named += sum(len(position["tracks"]) for position in record["positions"])
            left_out += sum(position["tracks_left_out"] for position in record["positions"])
            file.write(
                ("," if number else "") + "\n" + json.dumps(record, ensure_ascii=False, allow_nan=False)
            )
        file.write("\n]}\n")
    return {"named": named, "left_out": left_out}
