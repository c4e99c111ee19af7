"""The teacher's answers to augmented views, kept on disk: asked once, exact ever after, shared by every student.

A frozen teacher in eval mode answers the same to the same view, and crop and flip have few of them (162 an image at
32×32), so its answers can be kept: fp16, B×K, in one file a teacher, data set and augmentation, mapped into memory and
filled as views come up (the idea of Shen and Xing 2022, "FKD", without their loss: there are no stored random crops,
every view has its own place, one that was drawn, too).
"""

# B batch, K numbers an answer takes (its classes, or fewer: kept.py), N images, V views

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

# Of the disk's free space, what one teacher's answers may take, and how much all of them may.
_DISK_SHARE = 0.5
_MOST_BYTES = 16 * 2**30
# Views (count), of each of which memory holds whether it was seen; of more than these hardly any comes twice.
_MOST_VIEWS = 2**27

ANSWERS, SEEN = "answers.npy", "seen.npy"


class ViewCache:
    """Answers of one teacher to one data set's views. What is not there yet is asked for and kept.

    Attributes:
        asked, found: Views looked up so far that were not there, and that were.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.found = folder, 0, 0
        self.answers_NVK = np.load(folder / ANSWERS, mmap_mode="r+")
        self.seen_NV = np.load(folder / SEEN)
        # Another file may take its place; this one's number is its own for as long as it is mapped.
        self.inode = (folder / ANSWERS).stat().st_ino

    def look(self, row_B: npt.NDArray[np.int64], view_B: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of these views have an answer."""
        known_B: npt.NDArray[np.bool_] = self.seen_NV[row_B, view_B]
        self.found += int(known_B.sum())
        self.asked += int((~known_B).sum())
        return known_B

    def get(self, row_B: npt.NDArray[np.int64], view_B: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """Their answers B×K."""
        answers_BK: npt.NDArray[np.float16] = self.answers_NVK[row_B, view_B]
        return answers_BK

    def put(
        self, row_B: npt.NDArray[np.int64], view_B: npt.NDArray[np.int64], answer_BK: npt.NDArray[np.float16]
    ) -> None:
        """Keep answers; they count for others, and after a crash, from the next `flush` on."""
        self.answers_NVK[row_B, view_B] = answer_BK
        self.seen_NV[row_B, view_B] = True

    def flush(self) -> None:
        """Answers first, then that they are there: whatever happens in between, no view is believed without answer."""
        self.answers_NVK.flush()
        with _locked(self.folder.parent):
            try:
                there = (self.folder / ANSWERS).stat().st_ino == self.inode
            except FileNotFoundError:
                there = False
            if there:  # else it made room for another, and this training still has what it maps
                self.seen_NV |= np.load(self.folder / SEEN)
                _write_seen(self.folder, self.seen_NV)


def open_cache(home: Path, identity: dict[str, str], images: int, views: int, classes: int) -> ViewCache | None:
    """The cache of a teacher, its data and augmentation under `home`; None where the disk has no room for it, or
    where there are so many views that few would be looked up again.

    The oldest ones make room for it where all together would take more than they may.
    """
    if images * views > _MOST_VIEWS:
        return None
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    folder, size_bytes = home / name, images * views * classes * 2
    with _locked(home):
        try:
            return _open(folder, images, views, classes)
        except (OSError, EOFError, ValueError):  # not there yet, or not whole: nobody who has it open reads it again
            shutil.rmtree(folder, ignore_errors=True)
        if size_bytes > min(_MOST_BYTES, _DISK_SHARE * shutil.disk_usage(home).free):
            return None
        _make_room(home, size_bytes)
        try:
            _lay_out(folder, images, views, classes)
            return _open(folder, images, views, classes)
        except OSError:  # no space left after all
            shutil.rmtree(folder, ignore_errors=True)
            return None


def _open(folder: Path, images: int, views: int, classes: int) -> ViewCache:
    if (folder / ANSWERS).stat().st_size <= images * views * classes * 2:  # with its header it is larger
        raise ValueError(f"{folder} is not whole")  # NumPy would fill it up with zeros
    cache = ViewCache(folder)
    if cache.answers_NVK.shape != (images, views, classes) or cache.seen_NV.shape != (images, views):
        raise ValueError(f"{folder} holds answers of another shape")
    os.utime(folder)  # it is in use: the others are older
    return cache


def _make_room(home: Path, size_bytes: int) -> None:
    """Remove the oldest; the caller holds the lock, and has none of its own here."""
    kept = sorted((folder for folder in home.iterdir() if folder.is_dir()), key=lambda folder: folder.stat().st_mtime)
    total = size_bytes + sum(_apparent(folder) for folder in kept)
    for folder in kept:
        if total <= _MOST_BYTES:
            return
        total -= _apparent(folder)
        # A training that still maps the file goes on with it; it only will not be found again.
        shutil.rmtree(folder, ignore_errors=True)


def _apparent(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _lay_out(folder: Path, images: int, views: int, classes: int) -> None:
    """Files of their full size, which is taken now: on a full disk a write to mapped memory would kill the process."""
    folder.mkdir()
    answers = np.lib.format.open_memmap(folder / ANSWERS, mode="w+", dtype=np.float16, shape=(images, views, classes))
    with (folder / ANSWERS).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, answers.offset + answers.nbytes)
    _write_seen(folder, np.zeros((images, views), np.bool_))


def _write_seen(folder: Path, seen_NV: npt.NDArray[np.bool_]) -> None:
    """Whole or not at all, whatever dies meanwhile."""
    partial = folder / f".{SEEN}"
    with partial.open("wb") as file:
        np.save(file, seen_NV)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / SEEN)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time lays out, makes room and marks answers as there."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
