"""Model folders that are not what they seem: refused by name, and nothing in them is run."""

import contextlib
import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ghosttrack.common.errors import GhostTrackError, ModelSourceError
from ghosttrack.common.models.sizes import sizes_of
from ghosttrack.stages.prepare import snapshot
from tests.faults.conftest import SEED, Tally, budget
from tests.stages.prepare.test_snapshot import tiny_model, tiny_tokenizer

WEIGHT = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "whole"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def change(folder: Path, function: Callable[[dict[str, torch.Tensor]], None]) -> None:
    file = folder / "model.safetensors"
    weights = {name: value.clone() for name, value in load_file(file).items()}
    function(weights)
    save_file(weights, file, metadata={"format": "pt"})


def rename(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.1.self_attn.q_projection.weight"] = weights.pop(WEIGHT)


def lose(weights: dict[str, torch.Tensor]) -> None:
    del weights[WEIGHT]


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["score.weight"] = torch.zeros(2, 8)


def reshape(weights: dict[str, torch.Tensor]) -> None:
    weights[WEIGHT] = torch.zeros(4, 8)


def spoil(weights: dict[str, torch.Tensor]) -> None:
    weights[WEIGHT][3, 2] = float("nan")


def blow_up(weights: dict[str, torch.Tensor]) -> None:
    weights[WEIGHT][0, 0] = float("inf")


@pytest.mark.parametrize(
    ("function", "words"),
    [(rename, WEIGHT), (lose, WEIGHT), (add, "score.weight"), (reshape, "q_proj"), (spoil, WEIGHT), (blow_up, WEIGHT)],
)  # fmt: skip
def test_wrong_weights_are_refused_by_name(folder: Path, function: Any, words: str, tally: Tally) -> None:
    change(folder, function)
    with pytest.raises(ModelSourceError) as raised:
        snapshot.load_source(str(folder))
    assert words in str(raised.value)
    tally("model: wrong weights", True)


def test_a_whole_model_is_taken(folder: Path) -> None:
    model, _ = snapshot.load_source(str(folder))
    assert model.get_parameter(WEIGHT).shape == (8, 8)


def test_constants_of_older_checkpoints_are_no_unexpected_weights(folder: Path) -> None:
    change(folder, lambda weights: weights.update({"model.layers.0.attn.masked_bias": torch.tensor(-1e4)}))
    model, _ = snapshot.load_source(str(folder))
    assert model.get_parameter(WEIGHT).shape == (8, 8)


def test_code_in_a_model_folder_is_refused_not_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    marker = folder / "RAN"
    (folder / "evil.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nclass Config: pass\nclass Model: pass\n"
    )
    settings = json.loads((folder / "config.json").read_text())
    settings["model_type"] = "evil"
    settings["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(settings))

    def asked(*_: object) -> str:
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(GhostTrackError):
        snapshot.load_source(str(folder))
    with contextlib.suppress(GhostTrackError):
        sizes_of(str(folder))
    assert not marker.exists()
    tally("model: code of its own", True)


class Payload:
    """Pickled, it asks for a function to be called when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


def test_a_pickle_is_refused_and_does_nothing(folder: Path, tmp_path: Path, tally: Tally) -> None:
    marker = tmp_path / "RAN"
    (folder / "model.safetensors").unlink()
    for content in (pickle.dumps(Payload(marker)), b"\x80\x04.", b"", b"PK\x03\x04" + b"\0" * 50):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ModelSourceError):
            snapshot.load_source(str(folder))
        assert not marker.exists()
        tally("model: pickle", True)


def test_damaged_files_of_a_model_are_one_clear_error(whole: Path, tmp_path: Path, tally: Tally) -> None:
    """Cut short, with bytes changed, or replaced: loaded as it was, or refused in one line."""
    chance = random.Random(SEED)
    for number in range(budget(12, 400)):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        file = folder / chance.choice(
            ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
        )
        content = bytearray(file.read_bytes())
        how = chance.choice(["cut", "flip", "replace"])
        if how == "cut":
            content = content[: chance.randrange(len(content))]
        elif how == "flip":
            for _ in range(chance.choice([1, 20])):
                content[chance.randrange(min(len(content), 2000))] ^= 1 << chance.randrange(8)
        else:
            content = bytearray(
                chance.choice([b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
            )
        file.write_bytes(content)
        message = ""
        try:
            sizes_of(str(folder))
            snapshot.load_source(str(folder))
        except GhostTrackError as error:
            message = str(error)
        assert "\n" not in message
        tally("model: damaged file", True)
        shutil.rmtree(folder)
