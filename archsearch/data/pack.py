"""A folder as one file that can be sent: the same folder is the same bytes, so a server knows it again."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path

from archsearch.data.files import open_files
from archsearch.data.limits import Limits
from archsearch.errors import DataError

# Times of change would make other bytes of the same images.
_WHEN = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, path: Path, only: Collection[str] | None = None) -> Path:
    """Zip what a data set or a teacher is read from; raises DataError or TooLarge.

    Images and weights hardly pack: files are stored as they are.

    Args:
        only: Names of the files that are taken, of those that are there, links followed. Without it all are that are
            no hidden files and no junk.
    """
    names = _all_of(folder) if only is None else sorted(name for name in only if (folder / name).is_file())
    if not names:
        raise DataError(f"{folder} holds no files", field="path")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            _add(archive, name, folder / name)
    return path


def _all_of(folder: Path) -> list[str]:
    with open_files(folder, Limits()) as files:
        return sorted(name for name in files.names if not name.endswith("/"))


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    info = zipfile.ZipInfo(name, _WHEN)
    try:
        with path.open("rb") as file:
            info.file_size = os.fstat(file.fileno()).st_size
            with archive.open(info, "w") as packed:
                shutil.copyfileobj(file, packed, 2**20)
    except OSError as error:
        raise DataError(f"cannot be read or packed ({error.strerror})", field=name) from None
