"""Examples to measure a network on that exists already: which of them, and what its owner should hear of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from archsearch.data.notes import Note

Part = Literal["auto", "test", "selection", "train", "all"]


@dataclass(frozen=True)
class Measured:
    """What is measured, and on which examples.

    Attributes:
        dataset: A `Dataset` of the domain's: its `test` is what is measured, its `selection` what may be looked at
            before.
        part: Which examples those are: a split, or `all`.
        notes: What whoever asked should hear.
    """

    dataset: Any
    part: str
    notes: tuple[Note, ...]
