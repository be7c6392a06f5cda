"""Writes the configuration template from the fields' own descriptions and defaults.

python -m ghosttrack.common.config.template > config/model_configs/model_template.yaml
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from ghosttrack.common.config.schema import Config

HEAD = """\
# Every key of a configuration, with its description and its default. Made by
# `python -m ghosttrack.common.config.template`; keys without a default carry GPT-2 Small's value.
#
# To study another model: `ghosttrack init <name> --model <hub id, folder or .gguf file>` writes a file of what it needs;
# what is here can be added to it.
# Precedence: this file < --cluster profile < EXTRACT_BATCH_SIZE, TRAIN_BATCH_SIZE < --set key=value.
"""
EXAMPLES = {"name": "gpt2-small", "base_model": "gpt2", "d_model": 768, "n_layers": 12, "d_hidden": 3840}
"""Values for the keys that have no default."""
WIDTH = 108


def template() -> str:
    """The template's YAML text."""
    return HEAD + "\n".join(_section(Config, 0)) + "\n"


def _section(model: type[BaseModel], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield f"\n{indent}{name}:"
            yield from _section(annotation, depth + 1)
            continue
        if depth == 0:
            yield ""
        prefix = f"{indent}# "
        yield from textwrap.wrap(
            field.description or "", WIDTH, initial_indent=prefix, subsequent_indent=prefix
        )
        value = EXAMPLES[name] if field.is_required() else field.get_default(call_default_factory=True)
        comment = "# " if name == "name" else ""  # the file's own name is the better default
        yield f"{indent}{comment}{name}: {_inline(value)}"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


if __name__ == "__main__":
    print(template(), end="")
