"""Units and task keys: what a result's identity depends on, and what it does not."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import (
    STAGES_FOLDER,
    Contract,
    Unit,
    expand,
    key_of,
    load_contract,
    task_key,
)

CONTRACT = Contract.model_validate(
    {
        "home": STAGES_FOLDER / "sae_train", "stage": "sae_train", "phase": 2, "version": 1, "summary": "", "gpu": True,
        "units": [
            {"name": "base", "reads": {"extract/all": ["layer_{layers}_states.pt", "index.pt"]},
             "parameters": ["seed", "layers"], "folder": "models/{name}", "writes": ["sae_base.pt"]},
            {"name": "layer_{layer}", "reads": {"sae_train/base": ["sae_base.pt"], "extract/all": ["layer_{layer}_states.pt"]},
             "parameters": ["sae", "sae_training.epochs"], "folder": "models/{name}", "writes": ["sae_layer_{layer}.pt"]},
            {"name": "all", "reads": {"sae_train/layer_{layers}": ["sae_layer_{layers}.pt"], "prepare/model": ["*"]},
             "parameters": [], "folder": "results/{name}", "writes": ["*"]},
        ],
    }
)  # fmt: skip


@pytest.fixture
def units(write_config: Callable[..., Path]) -> dict[str, Unit]:
    config = load_config(str(write_config()), ["model.layers=0,2"])
    return {unit.name: unit for unit in expand(CONTRACT, config)}


def test_units_follow_the_layers(units: dict[str, Unit]) -> None:
    assert list(units) == ["base", "layer_0", "layer_2", "all"]
    assert [unit.layer for unit in units.values()] == [None, 0, 2, None]
    assert units["base"].reads[0].files == ["layer_0_states.pt", "layer_2_states.pt", "index.pt"]
    assert units["layer_2"].reads[1].files == ["layer_2_states.pt"]
    assert [(read.name, read.files) for read in units["all"].reads] == [
        ("sae_train/layer_0", ["sae_layer_0.pt"]),
        ("sae_train/layer_2", ["sae_layer_2.pt"]),
        ("prepare/model", ["*"]),
    ]
    assert units["layer_2"].folder == "models/small"
    assert units["layer_2"].manifest_name == "layer_2.manifest.json"
    assert units["all"].publishes_folder


def test_parameters_are_those_that_the_contract_names(units: dict[str, Unit]) -> None:
    assert units["base"].parameters == {"seed": 0, "layers": [0, 2]}
    assert units["layer_0"].parameters == {
        "sae.d_hidden": 8, "sae.target_l0": 2.0, "sae.shared_base": True, "sae.independent_twin": False,
        "sae.pretrained": None, "sae.pretrained_independent": None, "sae_training.epochs": 20.0,
    }  # fmt: skip


def test_the_key_is_stable() -> None:
    """A golden key: if it changes, everybody's results become stale. Bump contract versions instead."""
    digests = {"extract/all/index.pt": "ab" * 32}
    key = key_of("sae_train", 1, "layer_3", {"seed": 0, "sae.d_hidden": 8, "text": "é"}, digests)
    canonical = (
        '{"contractVersion":1,"inputs":{"extract/all/index.pt":"' + "ab" * 32 + '"},'
        '"parameters":{"sae.d_hidden":8,"seed":0,"text":"é"},"stage":"sae_train","unit":"layer_3"}'
    )
    assert key == hashlib.sha256(canonical.encode()).hexdigest()
    assert key == "4b6998ee4b9bc6578705960ce00f7e6141ee519a5eaded4fcdeec63c4fdb5ccc"


def test_the_key_changes_with_what_matters(units: dict[str, Unit]) -> None:
    unit, digests = units["layer_0"], {"extract/all/layer_0_states.pt": "1" * 64}
    key = task_key(unit, digests)
    changed = [
        task_key(unit, {"extract/all/layer_0_states.pt": "2" * 64}),
        task_key(unit, {}),
        task_key(unit.model_copy(update={"version": 2}), digests),
        task_key(unit.model_copy(update={"name": "layer_1"}), digests),
        task_key(unit.model_copy(update={"stage": "track"}), digests),
        task_key(unit.model_copy(update={"parameters": {**unit.parameters, "sae.d_hidden": 9}}), digests),
    ]
    assert len({key, *changed}) == 7


def test_the_key_does_not_change_with_names_and_places(
    write_config: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_config()
    first = expand(CONTRACT, load_config(str(path)))
    second = expand(CONTRACT, load_config(str(path), ["name=other", f"paths.root={tmp_path}/elsewhere"]))
    for one, other in zip(first, second, strict=True):
        assert one.folder != other.folder
        assert task_key(one, {"a": "b"}) == task_key(other, {"a": "b"})
    assert task_key(first[0], {"a": "1", "b": "2"}) == task_key(first[0], {"b": "2", "a": "1"})


WAVES = Contract.model_validate(
    {
        "home": STAGES_FOLDER / "extract", "stage": "extract", "phase": 1, "version": 1, "summary": "", "gpu": True, "ranks": "shared",
        "units": [
            {"name": "sample", "when": ["several_groups"], "temporary": True, "parameters": ["layers"],
             "folder": "data/{name}/sample", "writes": ["layer_{layers}_states.pt"]},
            {"name": "layers_{group}", "temporary": True, "parameters": [],
             "folder": "data/{name}", "writes": ["layer_{member}_states.pt", "index_{group}.pt"]},
        ],
    }
)  # fmt: skip
READERS = Contract.model_validate(
    {
        "home": STAGES_FOLDER / "sae_train", "stage": "sae_train", "phase": 2, "version": 1, "summary": "", "gpu": True,
        "units": [
            {"name": "base", "when": ["one_group"], "parameters": [], "folder": "m", "writes": ["base.pt"],
             "reads": {"extract/layers_{groups}": ["layer_{layers}_states.pt", "index_{groups}.pt"]}},
            {"name": "base", "when": ["several_groups"], "parameters": [], "folder": "m", "writes": ["base.pt"],
             "reads": {"extract/sample": ["layer_{layers}_states.pt"]}},
            {"name": "layer_{layer}", "parameters": [], "folder": "m", "writes": ["{layer}.pt"],
             "reads": {"extract/layers_{group}": ["layer_{layer}_states.pt", "index_{group}.pt"]}},
            {"name": "all", "parameters": [], "folder": "m", "writes": ["all.pt"],
             "reads": {"extract/layers_{groups}": ["layer_{layers}_states.pt", "index_{groups}.pt"]}},
        ],
    }
)  # fmt: skip


def waves(write_config: Callable[..., Path], contract: Contract, per_wave: int | None) -> dict[str, Unit]:
    model = {"base_model": "nowhere", "d_model": 4, "n_layers": 6, "layers": "0-3,5"}
    config = load_config(str(write_config(model=model, extract={"layers_per_wave": per_wave})))
    return {unit.name: unit for unit in expand(contract, config)}


def reads_of(unit: Unit) -> dict[str, list[str]]:
    return {read.name: read.files for read in unit.reads}


def test_one_wave_holds_all_layers(write_config: Callable[..., Path]) -> None:
    [wave] = waves(write_config, WAVES, None).values()
    assert (wave.name, wave.layers, wave.index, wave.temporary) == (
        "layers_0-3,5",
        [0, 1, 2, 3, 5],
        None,
        True,
    )
    readers = waves(write_config, READERS, None)
    everything = ["layer_0_states.pt", "layer_1_states.pt", "layer_2_states.pt", "layer_3_states.pt",
                  "layer_5_states.pt", "index_0-3,5.pt"]  # fmt: skip
    assert reads_of(readers["base"]) == {"extract/layers_0-3,5": everything}
    assert {name: unit.index for name, unit in readers.items()} == {
        "base": None, "layer_0": 0, "layer_1": 1, "layer_2": 2, "layer_3": 3, "layer_5": 5, "all": None,
    }  # fmt: skip
    assert not any(unit.temporary for unit in readers.values())


def test_layers_share_the_index_of_their_wave(write_config: Callable[..., Path]) -> None:
    units = waves(write_config, WAVES, 2)
    assert {name: (unit.layers, unit.index) for name, unit in units.items()} == {
        "sample": ([], None), "layers_0-1": ([0, 1], 0), "layers_2-3": ([2, 3], 1), "layers_5": ([5], 2),
    }  # fmt: skip
    assert units["sample"].writes == [f"layer_{i}_states.pt" for i in (0, 1, 2, 3, 5)]
    assert units["layers_2-3"].writes == ["layer_2_states.pt", "layer_3_states.pt", "index_2-3.pt"]
    readers = waves(write_config, READERS, 2)
    assert reads_of(readers["base"]) == {"extract/sample": units["sample"].writes}
    assert reads_of(readers["layer_3"]) == {"extract/layers_2-3": ["layer_3_states.pt", "index_2-3.pt"]}
    assert [readers[f"layer_{i}"].index for i in (0, 1, 2, 3, 5)] == [0, 0, 1, 1, 2]
    assert reads_of(readers["all"]) == {name: unit.writes for name, unit in (
        (unit.label, unit) for unit in units.values() if unit.layers)}  # fmt: skip


def test_how_layers_are_cut_into_waves_does_not_change_a_layer_s_parameters(
    write_config: Callable[..., Path],
) -> None:
    one, other = (waves(write_config, READERS, per_wave) for per_wave in (None, 2))
    assert {name: unit.parameters for name, unit in one.items()} == {
        name: unit.parameters for name, unit in other.items()
    }


def test_twins_are_trained_where_there_is_a_base_to_be_apart_from(write_config: Callable[..., Path]) -> None:
    contract = load_contract(STAGES_FOLDER / "sae_train")

    def units(**sae: object) -> dict[str, Unit]:
        config = load_config(
            str(write_config(sae={"d_hidden": 8, "target_l0": 2.0, **sae})), ["model.layers=0,2"]
        )
        return {unit.name: unit for unit in expand(contract, config)}

    without, with_twins = units(), units(independent_twin=True)
    assert set(with_twins) - set(without) == {"independent_0", "independent_2"}
    twin = with_twins["independent_2"]
    assert (twin.layer, twin.index) == (2, 2)
    assert [read.stage for read in twin.reads] == ["extract"]
    assert set(twin.writes).isdisjoint(with_twins["layer_2"].writes)
    for name, unit in without.items():  # the others know nothing of it
        assert task_key(unit, {}) == task_key(with_twins[name], {})
    for settings in ({"shared_base": False}, {"pretrained": "saes/{layer}"}):
        assert not any(name.startswith("independent") for name in units(independent_twin=True, **settings))
