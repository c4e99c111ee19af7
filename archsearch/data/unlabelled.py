"""Data of which no example has a label: what is said of them, and of requests that take labels for granted."""

from __future__ import annotations

from archsearch.data.notes import Note
from archsearch.errors import DataError

NO_LABELS = "no_labels"
# As many are held out for the selection and the test split as leave one to learn from.
_FEWEST = 3


def no_labels(noun: str) -> Note:
    """What its owner hears, and everybody who reads the result or the card."""
    return Note(
        NO_LABELS,
        f"no {noun} has a label: the teacher's classes are the task, its answers alone are learned, and everything is "
        "judged by agreement with the teacher; no label was seen, so nothing here says how often either is right",
    )


def check_enough(examples: int, noun: str, field: str) -> None:
    """Raise DataError where there are too few to be split."""
    if examples < _FEWEST:
        raise DataError(
            f"there are {examples} {noun}s and none has a label; give {_FEWEST} or more, which are parted into train, "
            "selection and test",
            field=field,
        )
