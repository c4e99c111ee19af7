"""Files that are whole at any time, and what is made of one that is not: whatever is read back goes through here."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_NO_ROOM_BYTES = 2**20


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash, a power cut or a full disk leaves the one before or this one, never half of it.

    Several writers may come at once: each writes its own file, and the last rename stands. Text is UTF-8.
    """
    # A name of its own, hidden: nobody who lists the folder takes it for a result.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    _sync_folder(path.parent)


def is_partial(path: Path) -> bool:
    """Whether `write_whole` names a file so while it is being written: an old one is of a process that was killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{12}", path.name) is not None


def put_in_place(partial: Path, path: Path) -> None:
    """Make a file somebody else wrote beside it the one at `path`, once its bytes are on the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync_folder(path.parent)


def read_kept(path: Path) -> Any:
    """The JSON of a file that only spares work; None where there is none, or none that can be read.

    What an earlier version wrote without care, or a disk lost, costs the work again and nothing else.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:  # cut short, or no JSON, or no UTF-8
        log.warning("%s cannot be read and is made again: %s", path, error)
        return None


def is_full(error: BaseException, folder: Path | None = None) -> bool:
    """Whether it says that the disk is full, which passes when somebody makes room.

    Args:
        folder: Where it was written, for libraries whose errors do not say why; so little room left is reason enough.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # What is not written in Python tells by its text.
    if os.strerror(errno.ENOSPC) in str(error):
        return True
    return folder is not None and shutil.disk_usage(folder).free < _NO_ROOM_BYTES


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk once its folder is; some file systems know no such thing."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
