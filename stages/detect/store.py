"""Fitted things as JSON and plain arrays: no pickle, so that a stored detector can be read safely and anywhere.

A dataclass or named tuple becomes `{"type": name, field: …}`, an array the name of its entry in the .npz file. Only types
that the reader lists can be made from a file.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.errors import CorruptInputError

Arrays = dict[str, NDArray[Any]]


def flatten(value: Any, arrays: Arrays, path: str = "") -> Any:
    """The JSON form of a fitted thing; its arrays are added to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        fields = value._asdict()
    elif isinstance(value, dict):
        return {"entries": {key: flatten(item, arrays, f"{path}/{key}") for key, item in value.items()}}
    elif isinstance(value, (np.floating, np.integer)):
        return value.item()
    else:
        return value
    return {
        "type": type(value).__name__,
        **{name: flatten(item, arrays, f"{path}/{name}" if path else name) for name, item in fields.items()},
    }


def unflatten(value: Any, arrays: Mapping[str, NDArray[Any]], types: Mapping[str, Any]) -> Any:
    """The thing that `flatten` was given. Raises CorruptInputError for a type that is not listed or a missing array."""
    if not isinstance(value, dict):
        return value
    try:
        if "array" in value:
            return arrays[value["array"]]
        if "entries" in value:
            return {key: unflatten(item, arrays, types) for key, item in value["entries"].items()}
        fields = {name: unflatten(item, arrays, types) for name, item in value.items() if name != "type"}
        return types[value["type"]](**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptInputError(f"the stored detector is not whole: {error!r}; run detect again") from error
