"""What loading a data set brought to light and its owner should hear, though it stops nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One thing worth saying.

    Attributes:
        code: A stable name of its kind, for programs.
        detail: A sentence with numbers, for people.
    """

    code: str
    detail: str
