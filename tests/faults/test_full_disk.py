"""A disk that is really full, under every library that writes: one storage error each, exit 17."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from ghosttrack.common.engine.storage_errors import storage_error, storage_errors
from ghosttrack.common.errors import StorageError
from ghosttrack.common.files import take_room
from tests.faults.conftest import Tally
from tests.faults.injection import EVERYDAY

NUMBERS = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
"""800 kB that do not compress."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    disk = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def draw(path: Path) -> None:
    mpl.use("Agg")
    figure = Figure(dpi=400)
    figure.subplots().imshow(NUMBERS.reshape(400, 500))
    figure.savefig(path, format="png")


def write_rows(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(NUMBERS.reshape(-1, 2).tolist())


def map_array(path: Path) -> None:
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=NUMBERS.shape)
    take_room(path)
    mapped[:] = NUMBERS


def save_into_a_file(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"n": torch.from_numpy(NUMBERS)}, buffer)
    path.write_bytes(buffer.getvalue())


WRITERS: dict[str, Callable[[Path], object]] = {
    "torch.save": lambda path: torch.save({"n": torch.from_numpy(NUMBERS)}, path),
    "torch.save, older format": lambda path: torch.save(
        {"n": torch.from_numpy(NUMBERS)}, path, _use_new_zipfile_serialization=False
    ),
    "torch.save through memory": save_into_a_file,
    "safetensors": lambda path: save_file({"n": torch.from_numpy(NUMBERS)}, path),
    "pyarrow": lambda path: pq.write_table(pa.table({"n": NUMBERS}), path),
    "numpy.save": lambda path: np.save(path.with_suffix(".npy"), NUMBERS),
    "numpy.savez": lambda path: np.savez(path.with_suffix(".npz"), n=NUMBERS),
    "numpy.memmap": map_array,
    "json": lambda path: path.write_text(json.dumps(NUMBERS.tolist())),
    "csv": write_rows,
    "matplotlib": draw,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(small: Path, writer: str, tally: Tally) -> None:
    file = small / "file"
    try:
        with pytest.raises(StorageError, match=r"disk is full.*paths.root") as raised, storage_errors(file):
            WRITERS[writer](file)
    finally:
        for left in small.iterdir():
            left.unlink()
    assert raised.value.exit_code == 17
    tally("full disk, by library", True)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("os error in a name"), KeyError("x"),
                                   ConnectionResetError(104, "reset")])  # fmt: skip
def test_other_troubles_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    assert storage_error(error, tmp_path) is None


@pytest.mark.parametrize("code", EVERYDAY)
def test_what_a_file_system_answers_on_a_bad_day_is_a_storage_error(tmp_path: Path, code: int) -> None:
    with pytest.raises(StorageError, match=f"{tmp_path}: .*; "), storage_errors(tmp_path):
        raise OSError(code, os.strerror(code), str(tmp_path))


def test_links_that_go_round_are_a_storage_error_however_python_says_it(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(StorageError, match="links go round in a circle"), storage_errors(tmp_path):
        (tmp_path / "round").resolve(strict=True)
    assert storage_error(RuntimeError("Symlink loop from '/a'")) is not None


@pytest.mark.parametrize("place", ["file", "folder"])
def test_what_stands_in_the_way_is_named(tmp_path: Path, place: str) -> None:
    """As of the `--output` of a command: a folder is to be made of a file, a file to take the place of a folder."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    def write() -> None:
        with storage_errors(tmp_path):
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / "file").replace(tmp_path / place)

    with pytest.raises(StorageError, match=f"cannot use .*{place}: .* move it away"):
        write()
