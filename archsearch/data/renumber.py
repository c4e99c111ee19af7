"""Labels of data a network never saw, as the network numbers its classes: told by names where both sides have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from archsearch.data.labels import check_range
from archsearch.data.notes import Note
from archsearch.data.task import Labels, Task
from archsearch.errors import InvalidRequest

# N examples, K classes

S = TypeVar("S", bound=Any)  # a frozen dataclass that is a `Labelled`


def renumbered(given: Mapping[str, S], names: tuple[str, ...], known: Task) -> tuple[Mapping[str, S], tuple[Note, ...]]:
    """The splits with labels in the order of a network's task; raises InvalidRequest where they are not of its classes.

    Args:
        names: Of the data's classes; empty where they are numbers only.
    """
    many = next(iter(given.values())).y_N.ndim == 2
    if not names or not known.class_names or names == known.class_names:
        classes = _classes(given, names, many)
        if classes > known.classes or (classes != known.classes and (many or names or "train" in given)):
            told = f"the student tells {known.classes} classes apart, the data has {classes}"
            raise InvalidRequest(told, field="--data")
        return given, ()
    strangers = [name for name in names if name not in known.class_names]
    if strangers or (many and len(names) != known.classes):
        raise InvalidRequest(_different(names, known.class_names, strangers), field="--data")
    number = np.array([known.class_names.index(name) for name in names])
    detail = (
        f"the data has {len(names)} of the network's {known.classes} classes"
        if len(names) < known.classes
        else "the data has the network's classes in another order"
    )
    note = Note("classes_reordered", f"{detail}; its labels were matched by name")
    return {split: replace(one, y_N=_as_numbered(one.y_N, number)) for split, one in given.items()}, (note,)


def _as_numbered(y_N: Labels, number: npt.NDArray[np.int64]) -> Labels:
    """Labels of the data's classes, whose numbers the network has otherwise."""
    if y_N.ndim == 1:
        return np.asarray(number[y_N], dtype=np.int64)
    return np.ascontiguousarray(y_N[:, np.argsort(number)], dtype=np.uint8)


def _classes(given: Mapping[str, Any], names: tuple[str, ...], many: bool) -> int:
    """How many classes the data tells of."""
    if many:
        return int(next(iter(given.values())).y_N.shape[1])
    if names:
        for split, one in given.items():
            check_range(f"y_{split}", one.y_N, len(names))
        return len(names)
    return 1 + max(int(one.y_N.max()) for one in given.values())


def _different(names: tuple[str, ...], own: tuple[str, ...], strangers: list[str]) -> str:
    if not strangers:
        return f"has {len(names)} labels, the student {len(own)}"
    missing = [name for name in own if name not in names]
    few = ", ".join(map(repr, strangers[:3])) + (f" and {len(strangers) - 3} more" if len(strangers) > 3 else "")
    knows = ", ".join(map(repr, missing[:3])) + (" …" if len(missing) > 3 else "")
    return (
        f"the student knows no class {few}" + (f", and has {knows} instead" if missing else "")
        + "; name the classes as the student's config.json does"
    )  # fmt: skip
