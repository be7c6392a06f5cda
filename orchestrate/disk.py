"""Room on the disk, and what takes it."""

import contextlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

PATIENCE = 10.0
"""Seconds for a file server to tell a quota."""


def free_bytes(folder: Path) -> int:
    """Bytes that the user may still write where `folder` is or will be: what is free, or is left of a quota."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    free, quota = shutil.disk_usage(folder).free, quota_left(folder)
    return free if quota is None else min(free, quota)


def quota_left(folder: Path) -> int | None:
    """Bytes that the user's quota leaves on the file system of a folder; None where there is none to be seen."""
    if shutil.which("quota") is None:
        return None
    try:
        said = subprocess.run(
            ["quota", "--raw-grace", "--no-wrap", "--show-mntpoint", "--hide-device"],
            capture_output=True, text=True, errors="replace", timeout=PATIENCE,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    mount = mount_of(folder)
    for line in said.splitlines():
        fields = line.split()
        if fields and fields[0] == str(mount) and len(fields) > 3:
            with contextlib.suppress(ValueError):
                used, soft, hard = (int(field.rstrip("*")) for field in fields[1:4])
                if limit := hard or soft:
                    return max(0, limit - used) * 1024
    return None


def mount_of(folder: Path) -> Path:
    folder = folder.resolve()
    while not os.path.ismount(folder):
        folder = folder.parent
    return folder


def folder_size(folder: Path) -> int:
    """Bytes that the files of a folder take on disk; reserved ones count in full."""
    return sum(_size(Path(inside, name)) for inside, _, names in os.walk(folder) for name in names)


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:  # a run that is going on has removed it
        return 0
    return found.st_blocks * 512 if stat.S_ISREG(found.st_mode) else 0
