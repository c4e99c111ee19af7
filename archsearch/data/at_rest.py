"""Arrays at rest: folders of plain .npy files that are there whole or not at all, and open as memory maps."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from archsearch.errors import Conflict, DataError
from archsearch.whole import is_full

G = TypeVar("G", bound=np.generic)
FIX = "the stored data set is damaged: upload or load it again"


def write_folder(folder: Path, write: Callable[[Path], None], same: Callable[[Path], bool]) -> None:
    """Make a folder, whole or not at all; one that is there already and holds the same is left alone.

    Args:
        write: Makes and fills the folder it is given, every file of it with its bytes on the disk.
        same: Whether what is there already is what would be written.

    Raises Conflict where the folder holds anything else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")  # see `whole.is_partial`
    try:
        write(temporary)
        os.replace(temporary, folder)
    except OSError as error:
        if not folder.exists():
            if is_full(error, folder.parent):  # NumPy only counts what it could not write
                raise OSError(errno.ENOSPC, f"{folder} cannot be written: {os.strerror(errno.ENOSPC)}") from None
            raise
        if not same(folder):
            raise Conflict(f"{folder} holds something else; choose another folder", field="folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Save an array as .npy, its bytes on the disk once this returns."""
    with open(path, "wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        # Renamed before its bytes are on the disk, a folder could survive a power cut empty.
        os.fsync(file.fileno())


def write_record(path: Path, text: str) -> None:
    """Save text as UTF-8, its bytes on the disk once this returns."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def open_array(path: Path, shape: tuple[int, ...], dtype: type[G]) -> npt.NDArray[G]:
    """A read-only memory map of an array; raises DataError unless it has this shape and type."""
    try:
        # An array without a byte cannot be mapped.
        array = np.load(path, mmap_mode="r" if all(shape) else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot open {path} ({error}); {FIX}", field=path.name) from None
    if array.shape != shape or array.dtype != dtype:
        detail = f"{path} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; {FIX}"
        raise DataError(detail, field=path.name)
    typed: npt.NDArray[G] = array
    return typed
