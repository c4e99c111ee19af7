"""From an uploaded file to stored texts: what a child process does, so that no bomb goes off in a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.archive import listening
from archsearch.data.limits import Limits
from archsearch.domains.text.load import load_text
from archsearch.domains.text.stored import save_table
from archsearch.domains.text.table import SPLITS

if TYPE_CHECKING:
    from pydantic import JsonValue

_TELL_EVERY_S = 0.5
# Of the whole, what reading takes; the rest is sorting into splits, hashing and writing.
_READING = 0.8


def unpack(
    tell: Callable[[JsonValue], None], path: str, options: dict[str, Any], limits: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Read a table of texts, or a zip of some, check it and store it in `folder`; returns what its row keeps.

    Args:
        tell: Hears the share of the work that is done, 0 to 1, now and then.
        options: Of `load_text`, by name.
        limits: Fields of a `Limits`.

    Raises:
        DataError, TooLarge: Naming the file, column or option at fault.
    """
    told = 0.0

    def read(share: float) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            tell(_READING * share)

    with listening(read):
        table = load_text(Path(path), Limits(**limits), **options)
    tell(_READING)
    save_table(table, Path(folder))
    return {
        "sha256": table.sha256,
        "task": {"domain": table.task.domain, **asdict(table.task)},
        "splits": {name: len(getattr(table, name)) for name in SPLITS},
        "notes": [asdict(note) for note in table.notes],
    }
