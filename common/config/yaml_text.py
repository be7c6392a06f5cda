"""YAML that somebody else wrote: read within bounds, and every way in which it can be wrong is one ValueError."""

from collections import Counter
from typing import Any

import yaml

LONGEST = 1 << 20
"""Characters. A configuration has a few thousand."""
DEEPEST = 32
MOST_ALIASES = 100
MOST_BITS = 1024
"""Of a number. One of 0xff… may have any length, and Python does not show one of more than 4300 digits."""
EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Once(yaml.SafeLoader):
    """Of two values of one key the first would be lost without a word, and with it a whole section."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise ValueError(
                f"the key {twice!r} stands twice in what begins at line {node.start_mark.line + 1}"
            )
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, texts: bool = False) -> Any:
    """The value that a YAML text stands for. Raises ValueError with what is wrong, in one line.

    texts: whether every scalar in it is a text, however it looks.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters; {LONGEST} are the most")
    try:
        depth = aliases = 0
        for event in yaml.parse(text, Loader=EVENTS):  # does not recurse, as building the value does
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if depth > DEEPEST or aliases > MOST_ALIASES:
                raise ValueError(
                    f"it is nested more than {DEEPEST} deep, or has more than {MOST_ALIASES} aliases"
                )
        value = yaml.load(text, yaml.BaseLoader if texts else _Once)
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        AttributeError,
        IndexError,
        KeyError,
    ) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    _bounded(value)
    return value


def _bounded(value: Any, left: list[int] | None = None, depth: int = 0) -> None:
    """Aliases of aliases stand for more than the text shows."""
    left = [LONGEST] if left is None else left
    left[0] -= 1
    if left[0] < 0 or depth > DEEPEST:
        raise ValueError(f"it stands for more than {LONGEST} values, or holds itself")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is no text")
            _bounded(inner, left, depth + 1)
    elif isinstance(value, (list, set)):
        for inner in value:
            _bounded(inner, left, depth + 1)
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError(f"a number has more than {MOST_BITS} bits")
