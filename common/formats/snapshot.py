"""The model's snapshot: a Hugging Face folder of which some files are read alone."""

from ghosttrack.common.formats.file import File, Json

SNAPSHOT = File("*", "prepare/model", "Hugging Face folder: config.json, safetensors, tokenizer")
CONFIG = Json(
    "config.json", "prepare/model", "the model's configuration, as transformers writes it", indent=2
)
TOKENIZER = Json("tokenizer.json", "prepare/model", "the tokenizer, as tokenizers writes it", indent=2)
