"""Texts as they are compared: the SQuAD convention, used for answers, subjects and questions alike."""

import re
import unicodedata


def normalise(text: str) -> str:
    """Lower case without accents, punctuation, articles or doubled spaces (the SQuAD convention)."""
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"['’`]", "", text)
    words = re.sub(r"[^\w\s]|_", " ", text).split()
    return " ".join(word for word in words if word not in ("a", "an", "the")) or " ".join(words)
