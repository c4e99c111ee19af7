"""The same image twice. Images are the same where their pixels are, after decoding and resizing.

Images that are merely alike are not found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from archsearch.data import duplicates
from archsearch.data.duplicates import Called, Looked, Words
from archsearch.data.notes import Note
from archsearch.domains.images.task import Images
from archsearch.request import OnDuplicates

WORDS = Words("images", "every pixel is the same")
S = TypeVar("S", bound=Images)


def look(splits: Mapping[str, S], wanted: OnDuplicates, called: Called) -> Looked[S]:
    """Find images that are there twice, and do with them what is wanted; see `data.duplicates.look`."""
    return duplicates.look(splits, _content, wanted, called, WORDS)


def _content(split: Images, row: int) -> bytes | memoryview:
    return split.content(row)


def look_apart(
    splits: Mapping[str, S], apart: S | None, wanted: OnDuplicates, called: Callable[[int], str]
) -> tuple[S | None, tuple[Note, ...]]:
    """The same of images without labels, if there are any; see `data.duplicates.look_apart`."""
    if apart is None:
        return None, ()
    return duplicates.look_apart(splits, apart, _content, wanted, called, WORDS)
