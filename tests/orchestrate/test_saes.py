"""`ghosttrack sae export` from published SAEs to folders."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.engine.stage import run_units
from ghosttrack.common.errors import ConfigError, CorruptInputError, MissingInputError, StorageError
from ghosttrack.common.files import sha256_of
from ghosttrack.common.models import saelens
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.orchestrate import cli
from ghosttrack.stages.sae_train.run import run
from tests.common.models.test_sae import make_sae

STAGES = Path(__file__).parents[2] / "stages"


class Project:
    """Published SAEs of layers 0 to 2, and the command about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for layer in range(3):
            sae = replace(make_sae(6, 20, seed=layer), layer=layer)
            saelens.write(sae, folder / f"given/layer_{layer}", {})
        self.take(folder / "given")

    def take(self, given: Path) -> None:
        """Import SAEs in the place of those that there are."""
        self.settings = ["model.d_model=6", "sae.d_hidden=20", "sae.target_l0=5", "model.layers=0-2",
                         f"data.corpus={self.folder}", f"paths.root={self.folder}/root",
                         f"sae.pretrained={given}/layer_{{layer}}"]  # fmt: skip
        self.options = [part for each in self.settings for part in ("--set", each)]
        config = load_config("gpt2-medium", self.settings, environ={})
        names = tuple(f"layer_{layer}" for layer in range(3))
        run_units(
            load_contract(STAGES / "sae_train"), run, config, names=names, log=logging.getLogger("test")
        )

    def export(self, *arguments: str) -> Path:
        output = self.folder / "out"
        cli.ghosttrack.main(
            ["sae", "export", "gpt2-medium", *self.options, "--output", str(output), *arguments],
            standalone_mode=False,
        )
        return output

    def published(self, layer: int) -> Path:
        return self.folder / f"root/models/checkpoints/gpt2-medium/sae_layer_{layer}_best.pt"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_layer_gets_a_folder(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    output = project.export()
    assert names(output) == ["layer_0", "layer_1", "layer_2"]
    for layer in range(3):
        assert names(output / f"layer_{layer}") == ["cfg.json", "sae_weights.safetensors"]
        sae = JumpReLUSAE.load(project.published(layer))
        found = saelens.read(output / f"layer_{layer}", layer=layer, d_model=6, d_hidden=20, target_l0=1).sae
        assert found.W_dec.allclose(sae.W_dec, atol=1e-6)
        assert found.b_enc.allclose(sae.b_enc, atol=1e-5)
    metadata = json.loads((output / "layer_1/cfg.json").read_text())["metadata"]
    assert (metadata["model_name"], metadata["context_size"]) == ("gpt2-medium", 512)
    assert metadata["dataset_path"] == project.folder.name  # not where it lies
    said = capsys.readouterr().out
    assert f"load_from_disk('{output}/layer_0')" in said
    assert f"sae.pretrained={output}/layer_{{layer}}" in said
    assert "note:" not in said


def test_saes_that_were_trained_apart_are_exported_beside_the_others(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"has no SAEs that were trained apart; set sae\.independent_twin"):
        project.export("--independent")
    for layer in range(3):
        sae = replace(make_sae(6, 20, seed=10 + layer), layer=layer)
        saelens.write(sae, project.folder / f"given/independent_{layer}", {})
    given = f"sae.pretrained_independent={project.folder}/given/independent_{{layer}}"
    with pytest.raises(MissingInputError, match="the SAE of layer 0 has no result"):
        project.export("--independent", "--set", given)
    run_units(
        load_contract(STAGES / "sae_train"), run, load_config("gpt2-medium", [*project.settings, given], environ={}),
        names=("independent_0", "independent_1", "independent_2"), log=logging.getLogger("test"),
    )  # fmt: skip
    project.export()
    output = project.export("--independent", "--set", given)
    assert names(output) == [f"{kind}_{layer}" for kind in ("independent", "layer") for layer in range(3)]
    assert f"sae.pretrained_independent={output}/independent_{{layer}}" in capsys.readouterr().out
    published = {
        "layer": project.published(1),
        "independent": project.published(1).with_name("sae_layer_1_independent.pt"),
    }
    written = {
        kind: saelens.read(output / f"{kind}_1", layer=1, d_model=6, d_hidden=20, target_l0=1).sae
        for kind in published
    }
    for kind, sae in written.items():
        assert sae.W_dec.allclose(JumpReLUSAE.load(published[kind]).W_dec, atol=1e-6)
    assert not written["layer"].W_dec.allclose(written["independent"].W_dec, atol=1e-2)


def test_a_copy_of_a_copy_names_the_file_that_was_trained(project: Project) -> None:
    settings = json.loads((project.export() / "layer_1/cfg.json").read_text())
    trained = settings["metadata"]["ghosttrack"]["trained_as"]
    assert trained == sha256_of(project.published(1))
    project.take(project.folder / "out")
    assert sha256_of(project.published(1)) != trained  # to rounding it is the same
    metrics = json.loads(project.published(1).with_name("sae_layer_1_metrics.json").read_text())
    assert metrics["source"]["trained_as"] == trained
    again = json.loads((project.export("--force") / "layer_1/cfg.json").read_text())
    assert again["metadata"]["ghosttrack"]["trained_as"] == trained


def test_layers_can_be_chosen(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(project.export("--layers", "1-2")) == ["layer_1", "layer_2"]
    assert "--set model.layers=1-2" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"layer 5 is out of range; .* studies layers 0-2"):
        project.export("--layers", "5")
    with pytest.raises(ConfigError, match="is not a list of layers"):
        project.export("--layers", "two")


def test_a_folder_is_replaced_only_when_that_is_asked_for(project: Project) -> None:
    output = project.export("--layers", "1")
    (output / "layer_1/cfg.json").write_text("mine")
    with pytest.raises(StorageError, match=r"layer_1 is there already; give --force"):
        project.export()
    assert names(output) == ["layer_1"], "nothing is written before all is clear"
    assert (output / "layer_1/cfg.json").read_text() == "mine"
    project.export("--force")
    assert names(output) == ["layer_0", "layer_1", "layer_2"]
    assert (output / "layer_1/cfg.json").read_text() != "mine"


def test_what_fails_half_way_leaves_the_old_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    output = project.export()
    before = (output / "layer_0/cfg.json").read_text()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saelens, "to_bytes", full)
    with pytest.raises(StorageError, match="full"):
        project.export("--force")
    assert names(output) == ["layer_0", "layer_1", "layer_2"]
    assert (output / "layer_0/cfg.json").read_text() == before


def test_damaged_and_missing_saes_are_not_exported(project: Project) -> None:
    with pytest.raises(MissingInputError, match="the SAE of layer 3 has no result"):
        project.export("--set", "model.layers=0-3")
    file = project.published(1).resolve()
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptInputError, match=r"sae_layer_1_best\.pt"):
        project.export()
    assert not (project.folder / "out").exists()


def test_saes_of_other_settings_are_exported_with_a_note(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.export("--set", "sae.target_l0=7")
    assert (
        "note: sae_train/layer_0 is not what would be made now (param:sae.target_l0"
        in capsys.readouterr().out
    )
