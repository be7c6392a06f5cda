"""What may still be written: free space, quota, and what is there already."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.orchestrate.disk import folder_size, free_bytes, mount_of, quota_left
from ghosttrack.orchestrate.request import Request


def test_what_is_left_of_a_quota_is_all_that_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quota").write_text(
        f"#!/bin/sh\necho 'Disk quotas for user me'\necho '{mount_of(tmp_path)} 90000* 80000 100000 0 3 0 0 0'\n"
    )
    (tmp_path / "quota").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert quota_left(tmp_path) == free_bytes(tmp_path / "not" / "there") == 10_000 * 1024
    plan = Request.of("gpt2-medium", overrides=[f"paths.root={tmp_path}"]).plan()
    assert "has 10.2 MB free" in str(plan.refusal)


def test_without_a_quota_it_is_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert quota_left(tmp_path) is None
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.01)


def test_reserved_files_count_in_full_and_links_do_not(tmp_path: Path) -> None:
    with (tmp_path / "reserved").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
    (tmp_path / "link").symlink_to("reserved")
    assert folder_size(tmp_path) == pytest.approx(1 << 20, rel=0.01)
    assert folder_size(tmp_path / "gone") == 0


def test_states_that_are_half_written_need_no_room_again() -> None:
    plan = Request.of("gpt2-medium").plan()
    assert plan.size == pytest.approx(186e9, rel=0.01)
    assert replace(plan, free=int(150e9)).refusal
    half_written = replace(plan, free=int(150e9), staged=int(59e9))
    assert half_written.refusal is None
    assert half_written.size == pytest.approx(plan.size - 59e9)
