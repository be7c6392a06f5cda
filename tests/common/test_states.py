import resource

import pytest
import torch

from common import states
from common.errors import CorruptInputError
from common.files import fsync


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_written_in_place_are_read_back_by_plain_torch(tmp_path, dtype):
    path = tmp_path / "layer_0_states.pt"
    states.reserve(path, 100, 16, dtype)
    rows = torch.randn(40, 16).to(dtype)
    out = states.open_for_writing(path)
    out[30:70] = rows
    fsync(path)
    del out
    loaded = torch.load(path, weights_only=True)["states"]
    assert loaded.shape == (100, 16)
    assert loaded.dtype == dtype
    assert torch.equal(loaded[30:70], rows)
    assert not loaded[:30].any()
    assert not loaded[70:].any()
    assert torch.equal(states.open_states(path), loaded)


def test_reserving_takes_the_disk_but_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "layer_0_states.pt"
    states.reserve(path, 200_000, 512, torch.float32)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert path.stat().st_blocks * 512 >= 200_000 * 512 * 4
    assert grown_mib < 100


def test_reading_a_loaded_file_does_not_change_it(tmp_path):
    path = tmp_path / "layer_0_states.pt"
    states.reserve(path, 4, 4, torch.float32)
    states.open_states(path)[0] = 1
    assert not states.open_states(path).any()


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "layer_0_states.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(CorruptInputError, match=r"layer_0_states\.pt is not a states file"):
        states.open_states(path)
