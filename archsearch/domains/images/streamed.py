"""Data sets of image files whose pixels are too much for memory: read once, and decoded as they are trained on.

What the one reading found is kept, by the names, sizes and times of the files: whoever goes on, evaluates or trains
again on the same files begins at once.
"""

# N files, H W space

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.data.at_rest import write_folder, write_record
from archsearch.data.files import Files
from archsearch.data.limits import Limits
from archsearch.domains.images.encoded import Encoded, source_of
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.layout import Layout
from archsearch.domains.images.survey import Survey, errors_as_json, open_survey, read_errors, survey
from archsearch.errors import Conflict, DataError, TooLarge
from archsearch.request import Fit
from archsearch.whole import read_kept

if TYPE_CHECKING:
    Broken = dict[str, DataError | TooLarge]

log = logging.getLogger(__name__)

# Of pixels in three channels. A constant, and nothing of the machine's: the same files are the same data everywhere.
MOST_BYTES = 2 * 2**30
# Begins the names of what was found, in a cache.
PREFIX = "images-"
_RECORD = "found.json"


def streams(images: int, size: tuple[int, int] | None) -> bool:
    """Whether so many images of that height and width stay files."""
    return size is not None and images * size[0] * size[1] * 3 > MOST_BYTES


def read_encoded(
    files: Files,
    names: Sequence[str],
    size: tuple[int, int] | None,
    limits: Limits,
    fit: Fit,
    listener: Callable[[int, int], None] | None,
    cache: Path | None,
) -> tuple[Encoded, Broken]:
    """The files as something to decode them from, and what is wrong with those that have no pixels.

    Args:
        cache: Folder where it is kept, and looked for; None for none.
    """
    folder = None if cache is None else cache / f"{PREFIX}{_key(files, names, size, limits, fit)}"
    found = None if folder is None else _kept(folder, len(names))
    if found is None:
        found = survey(files, names, size, limits, fit, listener)
        if folder is not None:
            _keep(folder, *found)
    elif listener:
        listener(len(names), len(names))
    return Encoded(source_of(files, list(names)), found[0], 3, fit), found[1]


def as_files(encoded: Encoded, names: Sequence[str], layout: Layout) -> Mapping[str, FileSplit]:
    """The splits of a layout, in grey where all that is left is."""
    row_of = {name: row for row, name in enumerate(names)}
    rows = {split: np.array([row_of[name] for name in some], np.int64) for split, some in layout.files.items()}
    grey = all(encoded.survey.grey_N[row_N].all() for row_N in rows.values())
    encoded = replace(encoded, channels=1 if grey else 3)
    return {split: FileSplit(encoded, row_N, layout.labels[split]) for split, row_N in rows.items()}


def _key(files: Files, names: Sequence[str], size: tuple[int, int] | None, limits: Limits, fit: Fit) -> str:
    """What the reading depended on: the files as they are listed, what they become, and who decodes them."""
    import PIL

    bounds = (limits.min_side, limits.max_side, limits.max_pixels, limits.max_file_bytes, limits.max_ratio)
    digest = hashlib.sha256(f"1 {size} {fit} {bounds} {PIL.__version__}\n".encode())
    for name in names:
        digest.update(f"{name}\0{_stamp(files, name)}\n".encode())
    return digest.hexdigest()[:32]


def _stamp(files: Files, name: str) -> tuple[int, ...]:
    """By which a file is known to be the one it was, without reading it; a zip tells its members' checksums."""
    if files.members:
        member = files.members[name]
        return member.header_offset, member.file_size, member.CRC
    with suppress(OSError):
        stat = os.stat(files.root / name)
        return stat.st_size, stat.st_mtime_ns
    return ()


def _kept(folder: Path, files: int) -> tuple[Survey, Broken] | None:
    try:
        record: Any = read_kept(folder / _RECORD)
        found = open_survey(folder, files, *record["size"]), read_errors(record["broken"])
        os.utime(folder)  # it is in use: others are older
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return None
    return found


def _keep(folder: Path, found: Survey, broken: Broken) -> None:
    """Written where there is room; it only spares another reading."""

    def write(new: Path) -> None:
        new.mkdir()
        found.save(new)
        told = {"size": [found.height, found.width], "broken": errors_as_json(broken)}
        write_record(new / _RECORD, json.dumps(told))

    shutil.rmtree(folder, ignore_errors=True)  # what is there was not whole
    try:
        write_folder(folder, write, lambda there: True)
    except Conflict:  # another process has written it
        return
    except OSError as error:
        log.warning("what was found in the images is not kept (%s)", os.strerror(error.errno or errno.EIO))
