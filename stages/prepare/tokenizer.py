"""A tokenizer changed: of the plain fast class, since those of some families put back what was taken away."""

import json
from typing import Any

from tokenizers import Tokenizer


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
