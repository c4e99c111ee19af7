"""A folder as one file that can be sent: the same folder is the same bytes, so a server knows it again."""

from __future__ import annotations

import zipfile
from pathlib import Path

from archsearch.data.files import open_files
from archsearch.data.limits import Limits
from archsearch.errors import DataError

# Times of change would make other bytes of the same images.
_WHEN = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, path: Path, limits: Limits | None = None) -> Path:
    """Zip what a data set is read from, without hidden files and junk; raises DataError or TooLarge.

    Images are compressed already: they are stored as they are.
    """
    with open_files(folder, limits or Limits()) as files, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        names = sorted(name for name in files.names if not name.endswith("/"))
        if not names:
            raise DataError(f"{folder} holds no files", field="path")
        for name in names:
            archive.writestr(zipfile.ZipInfo(name, _WHEN), files.read(name))
    return path
