"""Plans with SAEs that are taken ready-made: nothing is extracted, and a SAE counts by its content."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit, expand, load_contract, load_contracts
from ghosttrack.common.engine.stage import run_units
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import ConfigError
from ghosttrack.orchestrate.chain import chain_of
from ghosttrack.orchestrate.clean import clean
from ghosttrack.orchestrate.doctor import sources
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.plan import make_plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from tests.fake_project import FakeProject

STAGES = Path(__file__).parents[2] / "stages"
LAYERS = range(3)


def write_sae(folder: Path, weights: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text("{}")
    (folder / "sae_weights.safetensors").write_text(weights)


@pytest.fixture
def saes(tmp_path: Path) -> Path:
    for layer in LAYERS:
        write_sae(tmp_path / f"saes/layer_{layer}", f"weights of {layer}")
    return tmp_path / "saes"


def config(saes: Path, *overrides: str) -> Config:
    given = [
        f"paths.root={saes.parent / 'root'}",
        "model.layers=0-2",
        f"sae.pretrained={saes}/layer_{{layer}}",
    ]
    return load_config("gpt2-medium", [*given, *overrides], environ={})


def units(settings: Config) -> dict[str, Unit]:
    return {unit.label: unit for contract in load_contracts() for unit in expand(contract, settings)}


@pytest.mark.parametrize("per_wave", ["null", "2"])
def test_nothing_is_extracted_and_no_base_is_trained(saes: Path, per_wave: str) -> None:
    found = units(config(saes, f"extract.layers_per_wave={per_wave}"))
    assert not [label for label in found if label.startswith("extract/")]
    assert "sae_train/base" not in found
    for layer in LAYERS:
        unit = found[f"sae_train/layer_{layer}"]
        assert unit.reads == []
        assert unit.writes == [f"sae_layer_{layer}_best.pt", f"sae_layer_{layer}_metrics.json"]
    assert all(read.name in found for unit in found.values() for read in unit.reads)


def test_every_stage_finds_the_same_files_either_way(saes: Path) -> None:
    trained = load_config("gpt2-medium", ["model.layers=0-2"], environ={})
    here, there = units(config(saes)), units(trained)
    assert {label: unit.writes for label, unit in here.items()} == {
        label: unit.writes for label, unit in there.items() if label in here
    }


def test_saes_that_were_trained_apart_are_taken_from_folders_of_their_own(saes: Path) -> None:
    for layer in LAYERS:
        write_sae(saes / f"independent_{layer}", f"apart {layer}")
    given = f"sae.pretrained_independent={saes}/independent_{{layer}}"
    found = units(config(saes, given))
    for layer in LAYERS:
        unit = found[f"sae_train/independent_{layer}"]
        assert unit.reads == []
        assert unit.parameters["sae.pretrained_independent"].startswith("sha256:")
        assert unit.writes[0] == f"sae_layer_{layer}_independent.pt"
    assert "track/independent" in found
    assert all(read.name in found for unit in found.values() for read in unit.reads)
    without = units(config(saes, "sae.independent_twin=true"))  # cannot be trained where nothing is
    assert not [label for label in without if "independent" in label]
    write_sae(saes / "independent_1", "another")
    after = units(config(saes, given))
    changed = [label for label in found if found[label].parameters != after[label].parameters]
    assert changed == ["sae_train/independent_1"]
    request = Request.of(
        "gpt2-medium",
        [
            f"paths.root={saes.parent / 'root'}",
            "model.layers=0-2",
            f"sae.pretrained={saes}/layer_{{layer}}",
            given,
        ],
    )
    (saes / "independent_2/cfg.json").unlink()
    seen = {d.what: d for d in sources(request, request.plan())}
    assert (seen["sae.pretrained"].level, seen["sae.pretrained_independent"].level) == ("ok", "trouble")
    assert "independent_2 has no cfg.json" in seen["sae.pretrained_independent"].seen


def test_a_sae_counts_by_its_content_and_for_its_layer_only(saes: Path) -> None:
    before = units(config(saes))
    elsewhere = saes.parent / "elsewhere"
    shutil.copytree(saes, elsewhere)
    moved = units(config(elsewhere))
    assert {label: unit.parameters for label, unit in before.items()} == {
        label: unit.parameters for label, unit in moved.items()
    }
    assert not [label for label, unit in before.items() if str(saes) in str(unit.parameters)]
    write_sae(saes / "layer_1", "weights of 7")
    after = units(config(saes))
    changed = [label for label in before if before[label].parameters != after[label].parameters]
    assert changed == ["sae_train/layer_1"]


def test_other_layers_of_a_trained_configuration_do_not_count(saes: Path) -> None:
    here = units(config(saes))["sae_train/layer_1"]
    assert "sae_training.epochs" not in here.parameters
    assert here.parameters["sae.pretrained"].startswith("sha256:")


@pytest.mark.parametrize("per_wave", ["null", "2"])
def test_the_plan_needs_no_disk_for_states_and_no_time_for_training(saes: Path, per_wave: str) -> None:
    settings = config(saes, f"extract.layers_per_wave={per_wave}", "extract.max_disk_gb=1")
    plan = make_plan(settings, load_contracts())
    assert "extract" not in plan.stages
    assert (plan.waves.total, plan.waves.count, plan.waves_at_a_time) == (0, 0, None)
    assert plan.refusal is None
    imports = [p for p in plan.of_stage("sae_train") if p.unit.layer is not None]
    assert 0 < sum(planned.seconds for planned in imports) < 60
    assert plan.size < 10e9
    chain = chain_of(plan)
    names = [link.name for link in chain]
    assert names.index("prepare") < names.index("track")
    [saes_link] = [link for link in chain if link.name == "sae_train"]
    assert (saes_link.after, saes_link.throttle) == ({}, None)
    assert {name for link in chain if link.name == "track" for name in link.after} == {"prepare", "sae_train"}


def test_extract_run_by_hand_says_that_there_is_nothing_to_do(saes: Path) -> None:
    def never(job: object) -> dict[str, Any]:
        raise AssertionError("nothing is to be run")

    with pytest.raises(ConfigError, match=r"extract has nothing to do .*sae\.pretrained is set"):
        run_units(load_contract(STAGES / "extract"), never, config(saes), log=cast(Any, SimpleNamespace()))


def test_doctor_names_the_first_layer_without_a_sae(saes: Path) -> None:
    overrides = [
        f"paths.root={saes.parent / 'root'}",
        "model.layers=0-2",
        f"sae.pretrained={saes}/layer_{{layer}}",
    ]
    request = Request.of("gpt2-medium", overrides)

    def said() -> tuple[str, str]:
        [found] = [d for d in sources(request, request.plan()) if d.what == "sae.pretrained"]
        return found.level, found.seen

    assert said()[0] == "ok"
    (saes / "layer_2/cfg.json").unlink()
    level, seen = said()
    assert level == "trouble"
    assert "layer_2 has no cfg.json" in seen


def test_clean_takes_what_was_trained_before_too(project: FakeProject) -> None:
    contracts = [
        contract.model_copy(
            update={"units": [unit.model_copy(update={"when": ["trained"]}) for unit in contract.units]}
        )
        if contract.stage == "layers"
        else contract
        for contract in project.request().contracts
    ]
    LocalExecutor(Terminal()).submit(project.request(), project.request().plan())
    later = project.request("sae.pretrained=saes/layer_{layer}").config
    assert not [
        unit for contract in contracts if contract.stage == "layers" for unit in expand(contract, later)
    ]
    clean(Store(str(project.root)), contracts, "small")
    assert not (project.root / "models").exists()
