"""The teacher's answers to augmented views, kept on disk: asked once, exact ever after, shared by every student.

A frozen teacher in eval mode answers the same to the same view, and crop and flip have few of them (162 an image at
32×32), so its answers can be kept: fp16, B×K, in one file a teacher, data set and augmentation, mapped into memory and
filled as views come up (the idea of Shen and Xing 2022, "FKD", without their loss: there are no stored random crops,
every view has its own place).
"""

# B batch, C channels, H W space, K classes, N images, V views

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

# Of the disk's free space, what one teacher's answers may take, and how much all of them may.
_DISK_SHARE = 0.5
_MOST_BYTES = 16 * 2**30

ANSWERS, SEEN = "answers.npy", "seen.npy"


class ViewCache:
    """Answers of one teacher to one data set's views. What is not there yet is asked for and kept.

    Attributes:
        asked, found: Views looked up so far that were not there, and that were.
    """

    def __init__(self, folder: Path, images: int, views: int, classes: int) -> None:
        self.folder, self.asked, self.found = folder, 0, 0
        with _locked(folder):
            if not (folder / SEEN).is_file():
                _lay_out(folder, images, views, classes)
            self.answers_NVK = np.load(folder / ANSWERS, mmap_mode="r+")
            self.seen_NV = np.load(folder / SEEN)

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
        if not (self.folder / SEEN).is_file():
            return  # made room for another; this training still has what it maps
        with _locked(self.folder):
            self.seen_NV |= np.load(self.folder / SEEN)
            partial = self.folder / f".{SEEN}"
            with partial.open("wb") as file:
                np.save(file, self.seen_NV)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.folder / SEEN)


def open_cache(home: Path, identity: dict[str, str], images: int, views: int, classes: int) -> ViewCache | None:
    """The cache of a teacher, its data and augmentation under `home`; None where the disk has no room for it.

    The oldest ones make room for it where all together would take more than they may.
    """
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    folder, size_bytes = home / name, images * views * classes * 2
    if not (folder / SEEN).is_file():
        home.mkdir(parents=True, exist_ok=True)
        if size_bytes > min(_MOST_BYTES, _DISK_SHARE * shutil.disk_usage(home).free):
            return None
        _make_room(home, size_bytes)
    try:
        cache = ViewCache(folder, images, views, classes)
    except OSError:  # no space left after all
        shutil.rmtree(folder, ignore_errors=True)
        return None
    os.utime(folder)  # it is in use: the others are older
    return cache


def _make_room(home: Path, size_bytes: int) -> None:
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
    answers = np.lib.format.open_memmap(folder / ANSWERS, mode="w+", dtype=np.float16, shape=(images, views, classes))
    with (folder / ANSWERS).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, answers.offset + answers.nbytes)
    np.save(folder / SEEN, np.zeros((images, views), np.bool_))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def half(logits_BK: Tensor) -> npt.NDArray[np.float16]:
    """Logits as they are kept: fp16, far ones brought to its range."""
    found: npt.NDArray[np.float16] = logits_BK.detach().float().clamp(-65504, 65504).half().cpu().numpy()
    return found
