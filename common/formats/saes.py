"""The SAEs of a model, and how good they are."""

from pathlib import Path

from pydantic import BaseModel, Field

from ghosttrack.common.formats.file import File, Json


class Recovered(BaseModel):
    """What SAEs in the states' place cost the model. Of each ablation (`zero, mean`): null where it did no damage."""

    ce_recovered: dict[str, float | None]
    kl_recovered: dict[str, float | None]


class LayerQuality(BaseModel):
    layer: int
    l0: float
    fvu: float
    mse: float
    dead_fraction: float
    splice: Recovered


class Depth(BaseModel):
    layer: int
    fvu: float
    fvu_alone: float | None = None


class AllLayers(Recovered):
    error_by_depth: list[Depth] = Field(min_length=1)


class Pair(BaseModel):
    """Latents of the same number in two layers."""

    layer: int
    self_match: float


class Identity(BaseModel):
    adjacent: list[Pair]
    to_first: list[Pair] = []


class SaeQuality(BaseModel):
    layers: list[LayerQuality]
    all_layers: AllLayers
    identity: Identity


BASE = File("sae_base.pt", "sae_train/base", "the shared SAE (normalised inputs)")
BASE_METRICS = Json("base_metrics.json", "sae_train/base", "its held-out figures and its training")
SAE = File(
    "sae_layer_{layer}_best.pt", "sae_train/layer_{layer}", "`ghosttrack.common.models.sae.JumpReLUSAE`"
)
SAE_METRICS = Json(
    "sae_layer_{layer}_metrics.json",
    "sae_train/layer_{layer}",
    "l0, fvu, mse, dead_fraction, histograms, … on held-out documents",
)
INDEPENDENT_SAE = File(
    "sae_layer_{layer}_independent.pt",
    "sae_train/independent_{layer}",
    "the same trained without the base, on as many tokens",
)
INDEPENDENT_METRICS = Json(
    "sae_layer_{layer}_independent_metrics.json", "sae_train/independent_{layer}", "its figures"
)
QUALITY = Json(
    "sae_quality.json",
    "sae_train/quality",
    "`text`: `tokens, predictions, segments, ce` (the model's own, nats a token); `layers`: of each, its metrics file and "
    "`measured_on` (`held_out_states`, or `splice` where the file has no figures of its own) and `splice`: `ce, kl` by what "
    "takes the states' place (`sae, zero, mean`), `ce_recovered, kl_recovered` by ablation (`zero, mean`; null where the "
    "ablation did no damage); `all_layers`: the same of all at once, and `error_by_depth`: `layer, fvu, fvu_alone`; `identity`: "
    "`adjacent, to_first` (a record a pair: `cosine, cosine_quantiles, nearest_cosine, self_match`), `random`",
    version=1,
    record=SaeQuality,
)
SAE_PAGE = File("sae_layer_{layer}.png", "sae_train/quality", "a page a layer")
IDENTITY_PAGE = File("sae_identity.png", "sae_train/quality", "identity, recovery and error over depth")


def trained_as(metrics: Path) -> str | None:
    """Digest of the file that an imported SAE was first exported from, where its metrics file knows it; None for one that
    was trained here."""
    found = SAE_METRICS.read(metrics).get("source", {}).get("trained_as")
    return str(found) if found else None
