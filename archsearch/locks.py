"""Locks by which processes that share a folder tell who lives: the kernel drops one however its process ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from archsearch.errors import Conflict

# A survivor holds a dead process's lock for milliseconds; whoever comes under its name waits that long.
_PATIENCE_S = 1.0


def take(path: Path) -> int | None:
    """A lock, or None while another process holds it.

    A forked child that outlives its parent shares the lock, so nobody takes over while it may still be writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never deleted: a lock on a deleted file would exclude nobody.
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def take_for_good(path: Path, refusal: str) -> int:
    """A lock with this process written into it; raises Conflict with the refusal, `{}` in it being its holder."""
    deadline = time.monotonic() + _PATIENCE_S
    while (lock := take(path)) is None:
        if time.monotonic() > deadline:
            raise Conflict(refusal.format(path.read_text().strip()))
        time.sleep(0.05)
    os.truncate(lock, 0)
    os.write(lock, f"pid {os.getpid()} since {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n".encode())
    return lock


def release(lock: int) -> None:
    # Unlocked, not just closed: a child forked in the meantime has the file open too.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def held(folder: Path) -> dict[str, str]:
    """Names of the locks in a folder that are held, each with its note (`pid … since …`)."""
    living = {}
    for path in sorted(folder.glob("*.lock")):
        lock = take(path)
        if lock is None:
            living[path.stem] = path.read_text().strip()
        else:
            release(lock)
    return living
