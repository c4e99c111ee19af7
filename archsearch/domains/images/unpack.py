"""From an uploaded file to a stored data set: what a child process does, so that no bomb goes off in a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.archive import listening
from archsearch.data.limits import Limits
from archsearch.domains.images.image_folder import load_image_folder
from archsearch.domains.images.npz import load_npz
from archsearch.domains.images.stored import SPLITS, save_dataset

if TYPE_CHECKING:
    from pydantic import JsonValue

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
    """Read an npz or a zip of images, check it and store it in `folder`; returns what its row keeps.

    Args:
        tell: Hears the share of the work that is done, 0 to 1, now and then.
        options: Of `load_image_folder` or `load_npz`, by name.
        limits: Fields of a `Limits`.

    Raises:
        DataError, TooLarge, InvalidRequest: Naming the array, member or class at fault.
    """
    told = 0.0

    def read(share: float) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            tell(_READING * share)

    with listening(read):
        bounds = Limits(**limits)
        if format == "npz":
            dataset = load_npz(Path(path), bounds, **options)
        else:
            dataset = load_image_folder(Path(path), limits=bounds, **options)
    tell(_READING)
    save_dataset(dataset, Path(folder))
    return {
        "sha256": dataset.sha256,
        "task": asdict(dataset.task),
        "splits": {name: len(getattr(dataset, name)) for name in SPLITS},
        "notes": [asdict(note) for note in dataset.notes],
    }
