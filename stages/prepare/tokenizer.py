"""A model's tokenizer as its files have it, or changed: of the plain fast class, since those of some families put back what they began with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer

from ghosttrack.common.foreign import read_json

FAST, PROCESSORS = "tokenizer.json", "chat_template.json"


def read(place: str, arguments: Mapping[str, Any]) -> Any:
    """The tokenizer of a folder, a hub's model or a GGUF file: what its tokenizer.json says, where it has one.

    transformers builds those of some families anew from the vocabulary alone, to split texts as the family's first model does
    (every Qwen2's), whatever the file says; of those it is asked for the special tokens and what stands around a text. arguments:
    of `from_pretrained`. Raises as that does.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    def of_class(reader: Any) -> Any:
        return reader.from_pretrained(place, trust_remote_code=False, **arguments)

    path = None if "gguf_file" in arguments else _beside(place, FAST, arguments)
    try:
        found = of_class(AutoTokenizer)
    except Exception as error:  # of a class that does not take such a vocabulary
        if path is None or "trust_remote_code" in str(error):
            raise
        found = of_class(PreTrainedTokenizerFast)
    if path is not None and found.is_fast and type(found) is not PreTrainedTokenizerFast:
        built, found = found, of_class(PreTrainedTokenizerFast)
        names = found.get_vocab()
        more = {
            key: value
            for key, value in built.special_tokens_map.items()
            if isinstance(value, str) and value in names and getattr(found, key, None) is None
        }
        found.add_special_tokens(more)
        found.backend_tokenizer.post_processor = built.backend_tokenizer.post_processor
    if found.chat_template or "gguf_file" in arguments:
        return found
    if path := _beside(place, PROCESSORS, arguments):  # of a model that sees pictures too
        found.chat_template = read_json(path)["chat_template"]
    return found


def _beside(place: str, name: str, arguments: Mapping[str, Any]) -> Path | None:
    """A file of a folder, or of a hub's model as far as it was fetched: whoever is offline does not wait for an answer."""
    path = Path(place, name) if Path(place).is_dir() else try_to_load_from_cache(place, name, **arguments)
    return Path(path) if isinstance(path, (str, Path)) and Path(path).is_file() else None


def plain(tokenizer: Any, backend: Tokenizer) -> Any:
    """A tokenizer of the plain class with this backend, and what else the other one says of itself, as far as the backend
    has the tokens."""
    from transformers import PreTrainedTokenizerFast

    names = backend.get_vocab()

    def known(value: Any) -> Any:
        return [one for one in value if str(one) in names] if isinstance(value, list) else str(value) in names

    special = {
        key: known(value) if isinstance(value, list) else value
        for key, value in tokenizer.special_tokens_map.items()
        if known(value)
    }
    changed = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    changed.chat_template = tokenizer.chat_template
    changed.model_max_length = tokenizer.model_max_length
    return changed


def without_beyond(tokenizer: Any, n_embeddings: int) -> tuple[Any, list[str]]:
    """The tokenizer without the tokens that were added to its vocabulary beyond the model's embeddings, and their names.

    Such are those of a larger sibling (pictures, say), which no text of this model has. A tokenizer whose own vocabulary
    goes beyond is another model's, and comes back as it is.
    """
    backend = tokenizer.backend_tokenizer
    own = max(backend.get_vocab(with_added_tokens=False).values(), default=-1)
    content = json.loads(backend.to_str())
    beyond = [token["content"] for token in content["added_tokens"] if token["id"] >= n_embeddings]
    if own >= n_embeddings or not beyond:
        return tokenizer, []
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < n_embeddings]
    return plain(tokenizer, Tokenizer.from_str(json.dumps(content))), beyond
