"""What the units work with: the language model of the snapshot, and the SAEs of all tracked layers."""

from ghosttrack.common.engine.job import Job
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.saes import SAE
from ghosttrack.common.models.language_model import LanguageModel, shared_language_model
from ghosttrack.common.models.sae import JumpReLUSAE


def language_model_of(job: Job) -> LanguageModel:
    folder, how = job.input_dir("prepare/model"), job.config.model.loading
    model: LanguageModel = job.kept("language model", lambda: shared_language_model(folder, **how))
    return model


def load_saes(job: Job, file: File = SAE) -> list[JumpReLUSAE]:
    """The SAE of each layer. Raises ModelMismatchError naming the layer."""
    d_model = job.config.model.d_model
    return [JumpReLUSAE.load(job.input(file.of(i)), d_model=d_model, layer=i) for i in job.config.layers]
