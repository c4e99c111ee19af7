"""From an uploaded file to a stored data set: what a child process does, so that no bomb goes off in a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from archsearch import domains
from archsearch.data.archive import listening
from archsearch.data.limits import Limits
from archsearch.request import FileData

if TYPE_CHECKING:
    from pydantic import JsonValue

SPLITS = ("train", "selection", "test", "unlabelled")
_SPECS: TypeAdapter[Any] = TypeAdapter(FileData)
_TELL_EVERY_S = 0.5
# Of the whole, what reading takes; the rest is sorting into splits, hashing and writing.
_READING = 0.8


def unpack(
    tell: Callable[[JsonValue], None],
    path: str,
    format: str,
    options: dict[str, Any],
    limits: dict[str, Any],
    folder: str,
) -> dict[str, Any]:
    """Read an upload as a request reads a local file of that kind, and store it; returns what its row keeps.

    Args:
        tell: Hears the share of the work that is done, 0 to 1, now and then.
        format: The `kind` of one of `FileData`.
        options: Its other fields but `path`, as plain JSON.
        limits: Fields of a `Limits`.

    Raises:
        DataError, TooLarge, InvalidRequest: Naming the array, member, column, class or option at fault.
    """
    told = 0.0

    def read(share: float) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            tell(_READING * share)

    spec = _SPECS.validate_python({"kind": format, "path": path, **options})
    with listening(read):
        dataset = domains.load(spec, Limits(**limits))
    tell(_READING)
    domains.save_dataset(dataset, Path(folder), own=True)
    return {
        "sha256": dataset.sha256,
        "task": {"domain": dataset.task.domain, **asdict(dataset.task)},
        "splits": {name: len(split) for name in SPLITS if (split := getattr(dataset, name, None)) is not None},
        "notes": [asdict(note) for note in dataset.notes],
    }
