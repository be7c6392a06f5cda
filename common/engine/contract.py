"""Stage contracts: which units a stage has, what each reads, writes and depends on.

A contract is data (`stages/<name>/contract.yaml`), so that the orchestrator plans without importing
a stage. `task_key` is the identity of a unit's result: same key, same meaning, nothing to do.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from ghosttrack.common.config.schema import Config, Section, describe_layers, flattened
from ghosttrack.common.engine.code import code_digest
from ghosttrack.common.engine.fingerprint import SOURCE_KEYS, content_of, content_of_sae
from ghosttrack.common.errors import ConfigError
from ghosttrack.common.package import package_folder

STAGES_FOLDER = package_folder("stages")
ALL_FILES = "*"
PRETRAINED, PRETRAINED_INDEPENDENT = "sae.pretrained", "sae.pretrained_independent"
Condition = Literal[
    "one_group", "several_groups", "trained", "pretrained", "twin", "no_twin", "asked", "judge", "no_judge"
]
"""All layers are in one wave of extraction, or in several; the SAEs are trained here, or taken ready-made; beside those
from the shared base, there are SAEs that were trained apart, or there are none; there are new questions to score; another
model judges the answers, or none does."""


class UnitTemplate(Section):
    """A `units:` entry of a contract.

    `{name}` stands for the configuration's name. A name with `{layer}` makes a unit of each layer, one
    with `{group}` a unit of each wave of layers; there, `{member}` stands for each of the wave's layers,
    and for a unit of a layer, `{group}` is the wave that it is in. `{layers}` and `{groups}` stand for
    all of them.
    """

    name: str
    when: list[Condition] = Field(default_factory=list)
    """The unit exists only where all of these hold."""
    temporary: bool = False
    """The files may be removed once everything that reads them has been made and verifies."""
    together: str | None = None
    """Key of the configuration that says how many units of this kind a process may do side by side."""
    reads: dict[str, list[str]] = Field(default_factory=dict)
    parameters: list[str] = Field(default_factory=list)
    folder: str
    writes: list[str]


class Contract(Section):
    stage: str
    phase: int | None
    version: int
    title: str = ""
    """What it does, in a few words."""
    summary: str
    gpu: bool
    torch: bool = False
    """Whether it needs torch and the model libraries, so that its image is built on that base."""
    network: bool = False
    """Whether it may fetch from a model hub; what it fetches is kept where the hub's own tools look."""
    ranks: Literal["shared", "apart", "none"] = "none"
    """How several processes of the stage work: on one unit together, each on units of its own, or not at all."""
    units: list[UnitTemplate] = Field(min_length=1)
    home: Path = Field(default=Path(), exclude=True)
    """The folder that it was read from, in which the stage's code and costs are."""


class Read(Section):
    """Files that a unit reads from another unit. `files == ["*"]`: all of them."""

    stage: str
    unit: str
    files: list[str]

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.unit}"


class Unit(Section):
    """One piece of work of a stage under one configuration."""

    config_name: str
    stage: str
    version: int
    name: str
    layer: int | None
    """The layer of a unit of a layer."""
    layers: list[int] = Field(default_factory=list)
    """The layers of a unit of a layer or of a wave; empty where it has to do with no layers in particular."""
    index: int | None = None
    """Index in a job array: the number of the wave, or the layer where there is one wave only."""
    temporary: bool = False
    together: int = 1
    """How many units like this one a process may do side by side."""
    reads: list[Read]
    parameters: dict[str, Any]
    """Dotted key to value, for the parameters that matter to the result."""
    folder: str
    """Public folder, relative to the root."""
    writes: list[str]
    code: str = ""
    """Digest of the stage's code as it is now (`common/engine/code.py`)."""
    image: str = ""
    """Digest of what the stage's image is built from now; "" where the stage runs in none."""
    strict_code: bool = False
    """Whether a result that other code or another image has made is out of date."""

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
        alone = self.name == "all" or self.publishes_folder
        return "manifest.json" if alone else f"{self.name}.manifest.json"


def load_contracts(folder: Path = STAGES_FOLDER) -> list[Contract]:
    """All contracts in the order of their phases; stages without a phase come last."""
    contracts = [load_contract(path.parent) for path in folder.glob("*/contract.yaml")]
    if not contracts:
        raise ConfigError(
            f"there is no stage in {folder}; the installation is not whole, install ghosttrack again"
        )
    return sorted(contracts, key=lambda c: (c.phase is None, c.phase, c.stage))


def stage_module(stage_folder: Path) -> str:
    """The importable name of a stage: of the package's own, or of a folder `stages` that is on the path."""
    return f"{'ghosttrack.' if stage_folder.parent == STAGES_FOLDER else ''}stages.{stage_folder.name}"


def load_contract(stage_folder: Path) -> Contract:
    content = yaml.safe_load((stage_folder / "contract.yaml").read_text(encoding="utf-8"))
    return Contract.model_validate({**content, "home": stage_folder})


def expand(contract: Contract, config: Config, *, strict_code: bool = False, image: str = "") -> list[Unit]:
    """The units of a stage under a configuration, in the order in which they can run. image: as `Unit.image`."""
    code = code_digest(contract.home)
    settings = config.model_dump(mode="json")
    for key in SOURCE_KEYS:
        section, name = key.split(".")
        if any({key, section} & set(template.parameters) for template in contract.units):
            settings[section][name] = content_of(settings[section][name], key)
    layers, groups = config.layers, config.groups
    places = _places(tuple(layers), tuple(map(tuple, groups)))
    holding = {
        "one_group" if len(groups) == 1 else "several_groups",
        "trained" if config.sae.pretrained is None else "pretrained",
    }
    twin = config.sae.independent_twin and config.sae.shared_base
    if "pretrained" in holding:
        twin = config.sae.pretrained_independent is not None
    holding.add("twin" if twin else "no_twin")
    if config.data.asked is not None:
        holding.add("asked")
    other_judge = config.data.matching == "judge" and config.data.judge is not None
    holding.add("judge" if other_judge else "no_judge")
    return [
        Unit.model_construct(  # nothing here is a user's, and there are many
            config_name=config.name,
            stage=contract.stage,
            version=contract.version,
            name=place.fill(template.name)[0],
            layer=place.layer,
            layers=place.layers,
            index=place.index,
            temporary=template.temporary,
            together=_look_up(settings, template.together, layers) if template.together else 1,
            reads=[
                Read.model_construct(stage=stage, unit=unit, files=other.fill_all(files))
                for source, files in template.reads.items()
                for other in places.named_by(source, place)
                for stage, _, unit in [other.fill(source)[0].partition("/")]
            ],
            parameters=parameters,
            folder=template.folder.replace("{name}", config.name),
            writes=place.fill_all(template.writes),
            code=code,
            image=image,
            strict_code=strict_code,
        )
        for template in contract.units
        if holding.issuperset(template.when)
        for shared in [_parameters(template, settings, layers)]
        for place in places.named_by(template.name)
        for parameters in [_with_contents(shared, config, place.layers)]
    ]


def units_of_new(contracts: Sequence[Contract]) -> list[str]:
    """`stage/unit` of those that there are for new questions alone, in order."""
    return [
        f"{contract.stage}/{unit.name}"
        for contract in contracts
        for unit in contract.units
        if "asked" in unit.when
    ]


def task_key(unit: Unit, input_digests: Mapping[str, str]) -> str:
    """sha256 of the canonical JSON of all that the result depends on; no paths, hosts or times.

    input_digests: `stage/unit/file` to the sha256 of the file's content.
    """
    return key_of(unit.stage, unit.version, unit.name, unit.parameters, input_digests)


def key_of(
    stage: str, version: int, unit: str, parameters: Mapping[str, Any], input_digests: Mapping[str, str]
) -> str:
    identity = {"stage": stage, "contractVersion": version, "unit": unit, "parameters": dict(parameters),
                "inputs": dict(input_digests)}  # fmt: skip
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class _Place:
    """What the placeholders stand for in one unit: name to values."""

    values: Mapping[str, Sequence[int | str]]
    index: int | None = None

    @property
    def layer(self) -> int | None:
        return int(self.values["layer"][0]) if "layer" in self.values else None

    @property
    def layers(self) -> list[int]:
        return [int(layer) for layer in self.values.get("layer") or self.values.get("member", ())]

    def fill(self, pattern: str) -> list[str]:
        """The texts that a pattern stands for: one, or one for each value of a plural placeholder."""
        texts = [pattern]
        if "{" not in pattern:
            return texts
        for name, values in self.values.items():
            marker = f"{{{name}}}"
            if marker in pattern:
                texts = [text.replace(marker, str(value)) for text in texts for value in values]
        return texts

    def fill_all(self, patterns: list[str]) -> list[str]:
        """The texts of several patterns, one after another."""
        if "{" not in "".join(patterns):
            return patterns
        return [text for pattern in patterns for text in self.fill(pattern)]


class _Places:
    """The places of one configuration: everywhere at once, each wave, each layer."""

    def __init__(self, layers: Sequence[int], groups: Sequence[Sequence[int]]) -> None:
        names = [describe_layers(group) for group in groups]
        everywhere: dict[str, Sequence[int | str]] = {"layers": layers, "groups": names}
        several = len(groups) > 1
        self._nowhere = _Place(everywhere)
        self._by_group = [
            _Place({**everywhere, "group": [name], "member": group}, number if several else None)
            for number, (group, name) in enumerate(zip(groups, names, strict=True))
        ]
        self._by_layer = [
            _Place({**place.values, "layer": [layer]}, number if several else layer)
            for number, (group, place) in enumerate(zip(groups, self._by_group, strict=True))
            for layer in group
        ]

    def named_by(self, pattern: str, here: _Place | None = None) -> list[_Place]:
        """The places of the units that a name stands for, seen from the unit `here`.

        Through a plural name, the plural placeholders in the names of files mean the unit that is read.
        """
        if "{layers}" in pattern:
            return [_Place({**p.values, "layers": p.values["layer"]}, p.index) for p in self._by_layer]
        if "{groups}" in pattern:
            return [
                _Place({**p.values, "groups": p.values["group"], "layers": p.values["member"]}, p.index)
                for p in self._by_group
            ]
        if here is not None:
            return [here]
        if "{layer}" in pattern:
            return self._by_layer
        return self._by_group if "{group}" in pattern else [self._nowhere]


@functools.lru_cache(maxsize=64)
def _places(layers: tuple[int, ...], groups: tuple[tuple[int, ...], ...]) -> _Places:
    """Made once for all contracts and for all models of the same depth."""
    return _Places(layers, groups)


def _parameters(template: UnitTemplate, settings: Mapping[str, Any], layers: list[int]) -> dict[str, Any]:
    return {
        key: value
        for parameter in template.parameters
        for key, value in flattened({parameter: _look_up(settings, parameter, layers)})
    }


def _with_contents(parameters: dict[str, Any], config: Config, layers: list[int]) -> dict[str, Any]:
    """The parameters of a unit of these layers; SAEs that it takes ready-made count by their content."""
    for key in (PRETRAINED, PRETRAINED_INDEPENDENT):
        if parameters.get(key) is not None:
            twin, places = key == PRETRAINED_INDEPENDENT, layers or config.layers
            folders = [config.sae.pretrained_folder(layer, twin) for layer in places]
            contents = [content_of_sae(folder) or "missing" for folder in folders]
            parameters = {**parameters, key: contents[0] if len(contents) == 1 else contents}
    return parameters


def _look_up(settings: Mapping[str, Any], key: str, layers: list[int]) -> Any:
    if key == "layers":
        return layers
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    return value
