"""The model's snapshot: a Hugging Face folder of which some files are read alone."""

from ghosttrack.common.formats.file import File, Json

SNAPSHOT = File("*", "prepare", "Hugging Face folder: config.json, safetensors, tokenizer")
CONFIG = Json("config.json", "prepare", "the model's configuration, as transformers writes it", indent=2)
TOKENIZER = Json("tokenizer.json", "prepare", "the tokenizer, as tokenizers writes it", indent=2)
