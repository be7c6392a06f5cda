"""The SAEs of all tracked layers, checked against the model that they are used with."""

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.saes import INDEPENDENT_SAE, SAE
from ghosttrack.common.models.sae import JumpReLUSAE


def load_saes(job: Job) -> list[JumpReLUSAE]:
    """The SAE of each layer. Raises ModelMismatchError naming the layer."""
    return [_load(job, SAE, i) for i in job.config.layers]


def load_twins(job: Job) -> list[JumpReLUSAE]:
    """The SAEs that were trained apart, without a shared base."""
    return [_load(job, INDEPENDENT_SAE, i) for i in job.config.layers]


def _load(job: Job, file: File, layer: int) -> JumpReLUSAE:
    return JumpReLUSAE.load(job.input(file.of(layer)), d_model=job.config.model.d_model, layer=layer)
