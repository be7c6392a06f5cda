"""The base class of everything that a user writes in YAML: unknown keys are errors, values do not change."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
