"""All published files that the modules of `common/formats/` describe, by name; and the documents made from them.

`python -m docs.made_files` writes docs/files.md, the table of docs/structure.md and the JSON Schemas anew.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from ghosttrack.common import formats
from ghosttrack.common.engine.contract import load_contracts
from ghosttrack.common.engine.manifest import Manifest
from ghosttrack.common.formats.detection_metrics import Metrics
from ghosttrack.common.formats.file import File, Json, Table
from ghosttrack.common.formats.final_report import FinalReport
from ghosttrack.common.formats.hallucination_scores import ScoredQuestions
from ghosttrack.common.formats.neutral import markdown_table
from ghosttrack.common.formats.saes import SaeQuality
from ghosttrack.common.formats.trajectories import Trajectories

STRUCTURE, REFERENCE = Path("docs/structure.md"), Path("docs/files.md")
SCHEMAS: dict[str, type[BaseModel]] = {
    "detection_metrics": Metrics,
    "final_report": FinalReport,
    "hallucination_scores": ScoredQuestions,
    "hypothesis_trajectories": Trajectories,
    "manifest": Manifest,
    "sae_quality": SaeQuality,
}


def files() -> dict[str, File]:
    """Every file, by its name. Imports all modules, some of which take torch with them."""
    found: dict[str, File] = {}
    for module in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, File):
                    found[each.name] = each
    return found


def generic(pattern: str) -> str:
    """A name in a contract as it stands here: `{layer}` for whichever layer, `{group}` for whichever wave."""
    return re.sub(r"\{(layers|member)\}", "{layer}", pattern)


def rows() -> list[File]:
    """All that the contracts say is written, in their order."""
    known, writers = files(), dict[str, str]()
    for contract in load_contracts():
        for unit in contract.units:
            for name in map(generic, unit.writes):
                writers.setdefault(name, f"{contract.stage}/{unit.name}")
    for name, writer in writers.items():
        assert name in known, f"{writer} writes {name}: describe it in common/formats"
        assert known[name].unit == writer, f"{name} is of {writer}, not of {known[name].unit}"
    return [known[name] for name in writers]


def table() -> str:
    """The table of docs/structure.md: the files of each unit, whose content docs/files.md tells."""
    names: dict[str, list[str]] = {}
    for file in rows():
        names.setdefault(f"`{file.unit}`", []).append(f"`{file.name}`")
    return markdown_table([["unit", "files"], *([unit, ", ".join(own)] for unit, own in names.items())])


def reference() -> str:
    """docs/files.md: every file with its columns."""
    lines = [
        "# Published files",
        "",
        "Written by `python -m docs.made_files` from `common/formats/`, where each file's name, version and",
        "columns stand once. A version is in the file as `schema_version`; a reader refuses another.",
    ]
    for file in rows():
        lines += ["", f"## {file.name}", "", f"Of `{file.unit}`{_version(file)}. {_sentence(file.content)}"]
        if isinstance(file, Table):
            columns = [[f"`{each.name}`", each.type, each.meaning] for each in file.columns]
            lines += ["", markdown_table([["column", "type", "meaning"], *columns])]
    return "\n".join([*lines, ""])


def documents() -> dict[Path, str]:
    """Path below the repository's folder to what it should hold; of docs/structure.md only the part between the marks."""
    schemas = {
        Path(f"docs/{name}.schema.json"): json.dumps(
            record.model_json_schema(by_alias=True), indent=2, ensure_ascii=False
        )
        + "\n"
        for name, record in SCHEMAS.items()
    }
    return {STRUCTURE: table(), REFERENCE: reference(), **schemas}


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A document with parts between their marks, `<!-- made: name -->` and `<!-- end -->`. Raises ValueError for a lost mark."""
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- made: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the document has {count} places for {name}, not one")
    return text


def _version(file: File) -> str:
    return f" (version {file.version})" if isinstance(file, Json) and file.version is not None else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def main() -> None:
    for path, content in documents().items():
        if path == STRUCTURE:
            content = filled(path.read_text(encoding="utf-8"), {"files": content})
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
