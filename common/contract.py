"""Stage contracts: which units a stage has, what each reads, writes and depends on.

A contract is data (`stages/<name>/contract.yaml`), so that the orchestrator plans without importing
a stage. `task_key` is the identity of a unit's result: same key, same meaning, nothing to do.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from common.config import Config
from common.fingerprint import SOURCE_KEYS, content_of

STAGES_FOLDER = Path(__file__).resolve().parent.parent / "stages"
ALL_FILES = "*"


class UnitTemplate(BaseModel):
    """A `units:` entry of a contract; `{layer}`, `{layers}` and `{name}` stand for values of a configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    reads: dict[str, list[str]] = {}
    parameters: list[str] = []
    folder: str
    writes: list[str]


class Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    phase: int | None
    version: int
    summary: str
    gpu: bool
    units: list[UnitTemplate]


class Read(BaseModel):
    """Files that a unit reads from another unit. `files == ["*"]`: all of them."""

    model_config = ConfigDict(frozen=True)

    stage: str
    unit: str
    files: list[str]

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.unit}"


class Unit(BaseModel):
    """One piece of work of a stage under one configuration."""

    model_config = ConfigDict(frozen=True)

    config_name: str
    stage: str
    version: int
    name: str
    layer: int | None
    reads: list[Read]
    parameters: dict[str, Any]
    """Dotted key to value, for the parameters that matter to the result."""
    folder: str
    """Public folder, relative to the root."""
    writes: list[str]

    @property
    def label(self) -> str:
        return f"{self.stage}/{self.name}"

    @property
    def publishes_folder(self) -> bool:
        """Whether the public name is the folder itself, with whatever files are in it."""
        return self.writes == [ALL_FILES]

    @property
    def manifest_name(self) -> str:
        """Public name of the manifest beside the outputs; units that share a folder put their name before it."""
        return (
            "manifest.json" if self.name == "all" or self.publishes_folder else f"{self.name}.manifest.json"
        )


def load_contracts(folder: Path = STAGES_FOLDER) -> list[Contract]:
    """All contracts in the order of their phases; stages without a phase come last."""
    contracts = [load_contract(path.parent) for path in folder.glob("*/contract.yaml")]
    return sorted(contracts, key=lambda c: (c.phase is None, c.phase, c.stage))


def load_contract(stage_folder: Path) -> Contract:
    return Contract.model_validate(
        yaml.safe_load((stage_folder / "contract.yaml").read_text(encoding="utf-8"))
    )


def expand(contract: Contract, config: Config) -> list[Unit]:
    """The units of a stage under a configuration, in the order in which they can run."""
    settings = config.model_dump(mode="json")
    for key in SOURCE_KEYS:
        section, name = key.split(".")
        settings[section][name] = content_of(settings[section][name])
    units = []
    for template in contract.units:
        for layer in config.layers if "{layer}" in template.name else [None]:
            units.append(
                Unit(
                    config_name=config.name,
                    stage=contract.stage,
                    version=contract.version,
                    name=_fill(template.name, layer),
                    layer=layer,
                    reads=list(_reads(template, layer, config.layers)),
                    parameters={
                        key: value
                        for parameter in template.parameters
                        for key, value in _flatten(parameter, _look_up(settings, parameter, config.layers))
                    },
                    folder=template.folder.replace("{name}", config.name),
                    writes=[
                        _fill(name, each)
                        for name in template.writes
                        for each in (config.layers if "{layers}" in name else [layer])
                    ],
                )
            )
    return units


def task_key(unit: Unit, input_digests: Mapping[str, str]) -> str:
    """sha256 of the canonical JSON of all that the result depends on; no paths, hosts or times.

    input_digests: `stage/unit/file` to the sha256 of the file's content.
    """
    return key_of(unit.stage, unit.version, unit.name, unit.parameters, input_digests)


def key_of(
    stage: str, version: int, unit: str, parameters: Mapping[str, Any], input_digests: Mapping[str, str]
) -> str:
    identity = {
        "stage": stage,
        "contractVersion": version,
        "unit": unit,
        "parameters": dict(parameters),
        "inputs": dict(input_digests),
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _fill(pattern: str, layer: int | None) -> str:
    if layer is None:
        return pattern
    return pattern.replace("{layers}", str(layer)).replace("{layer}", str(layer))


def _reads(template: UnitTemplate, layer: int | None, layers: list[int]) -> Iterator[Read]:
    for source, files in template.reads.items():
        for each in layers if "{layers}" in source else [layer]:
            stage, _, unit = _fill(source, each).partition("/")
            names: list[str] = []
            for file in files:
                many = "{layers}" in file and "{layers}" not in source
                names += [_fill(file, other) for other in (layers if many else [each])]
            yield Read(stage=stage, unit=unit, files=names)


def _look_up(settings: Mapping[str, Any], key: str, layers: list[int]) -> Any:
    if key == "layers":
        return layers
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    return value


def _flatten(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(f"{key}.{name}", inner)
    else:
        yield key, value
