"""Pieces that are done by several processes: all of them, by one thread each, and errors come back as they are."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ghosttrack.common.engine.side_by_side import side_by_side
from ghosttrack.common.errors import DataError, RankLostError


@pytest.mark.parametrize("threads", [1, 3, 8, 64])
def test_every_piece_is_done_once(tmp_path, threads):
    shares = tmp_path / "shares"
    shares.mkdir()

    def do(piece):
        (tmp_path / str(piece)).write_text(str(os.getpid()))
        return piece * piece

    def set_threads(count):
        (shares / str(os.getpid())).write_text(str(count))

    found = sorted(side_by_side([4, 5, 6, 7], do, threads, set_threads))
    assert found == [(4, 16), (5, 25), (6, 36), (7, 49)]
    by = {(tmp_path / str(piece)).read_text() for piece in (4, 5, 6, 7)}
    if threads in (1, 64):  # alone, or more than so many processes would use
        assert by == {str(os.getpid())}
    else:
        assert str(os.getpid()) not in by
        assert {path.read_text() for path in shares.iterdir()} == {"1"}


def test_pieces_compute_after_threads_have_worked_here():
    """OpenMP's threads do not outlive a fork: a process that used several again would wait for ever."""
    program = """
import torch
from ghosttrack.common.engine.side_by_side import side_by_side
torch.set_num_threads(8)
matrix = torch.randn(500, 500, generator=torch.Generator().manual_seed(0))
work = lambda _: float((matrix @ matrix).softmax(-1).square().sum())
expected = work(0)
for _, found in side_by_side(range(3), work, 8, torch.set_num_threads):
    assert abs(found - expected) < 1e-3 * expected
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "8"}
    )


def test_an_interruption_ends_all_processes_at_once(tmp_path):
    program = """
import sys, time
from pathlib import Path
from ghosttrack.common.engine.side_by_side import side_by_side
def work(piece):
    (Path(sys.argv[1]) / str(piece)).touch()
    time.sleep(60)
list(side_by_side(range(8), work, 2, lambda _: None))
"""
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], start_new_session=True, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert said.strip().endswith(b"KeyboardInterrupt")
    assert len(list(tmp_path.iterdir())) < 8


def test_an_error_of_a_piece_is_raised_here(tmp_path):
    def do(piece):
        if piece == 2:
            raise DataError("question 'x' is too long")
        (tmp_path / str(piece)).touch()

    with pytest.raises(DataError, match="question 'x' is too long"):
        list(side_by_side([1, 2], do, 2, lambda _: None))


def test_a_killed_process_is_told():
    with pytest.raises(RankLostError, match="killed"):
        list(side_by_side([1, 2], lambda _: os.kill(os.getpid(), signal.SIGKILL), 2, lambda _: None))
