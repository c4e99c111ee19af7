"""A disk so small that it can be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB, which only root may mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path, *, but_bytes: int = 0) -> Iterator[None]:
    """No room left on a disk, or only so much."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        size = 0
        # A server may write meanwhile: what was free a moment ago may not be.
        while (room := _free(disk) - but_bytes) > 0:
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), size, room)
                size += room
    try:
        yield
    finally:
        filler.unlink()


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize
