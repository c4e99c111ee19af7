"""From what stands in a table's label columns to numbers of classes, or to 0 and 1 for each of many labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from archsearch.data.batches import require_room
from archsearch.data.labels import check_distinct, count_classes, count_labels, is_text, refuse_one_hot
from archsearch.data.limits import Limits
from archsearch.data.notes import Note
from archsearch.data.task import Labels, is_unknown, unknown
from archsearch.data.unlabelled import check_enough
from archsearch.errors import DataError, TooLarge

# N texts, K labels

# A word; or all labels of a text that may have several; or nothing.
Raw = str | tuple[str, ...] | None
# What a text of a split is called, by its row.
Called = Callable[[str, int], str]

SEPARATORS = "|;"
_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
# 18 digits are below 2**63.
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_WHOLE_AS_FLOAT = re.compile(r"(-?\d{1,18})\.0+")
# Characters of a name of a class.
_LONGEST = 500
_FRACTION = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Numbered:
    """Labels of every split as `TableSplit` has them.

    Attributes:
        class_names: In label order; empty where labels were the numbers from 0 already.
        column: Where they came from, for messages.
        notes: What was decided.
    """

    class_names: tuple[str, ...]
    y: dict[str, Labels]
    column: str
    notes: tuple[Note, ...] = ()


def read_label(value: object) -> Raw:
    """A cell of the one label column, or what JSON has there; raises ValueError saying what it is instead."""
    if isinstance(value, list):
        words = tuple(word for one in value if (word := _word(one)) is not None)
        if len(words) < len(value):
            raise ValueError("holds an empty label")
        return words
    return _word(value)


def read_flags(values: Sequence[object], columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of 0 and 1 that hold 1; raises ValueError naming one that holds anything else."""
    found = []
    for value, column in zip(values, columns, strict=True):
        word = str(value).strip().lower()
        if word not in _FLAGS:
            raise ValueError(f"{column} is {value!r:.60}; write 1 where the text has the label, else 0")
        if _FLAGS[word]:
            found.append(column)
    return tuple(found)


def _word(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"is {value!r:.60}, which is no label; write a word, a number or a list of them")
    word = value.strip()
    if not is_text(word):
        raise ValueError(f"is {word!a:.60}, which is no Unicode text")
    if len(word) > _LONGEST:
        raise ValueError(f"has {len(word):,} characters, which is a text; name the column of labels")
    as_float = _WHOLE_AS_FLOAT.fullmatch(word)
    return (as_float[1] if as_float else word) or None


def number_labels(
    raw: Mapping[str, Sequence[Raw]], columns: tuple[str, ...], called: Called, limits: Limits
) -> Numbered:
    """Numbers for the labels of all splits; raises DataError or TooLarge whose `field` is the column.

    Words are numbered in their alphabetical order. Numbers from 0 stay what they are; others, as 1 to 5 of stars, are
    names in their own order. A label has to be on some training text. Without a column no text has any.
    """
    if not columns:
        return Numbered((), {split: unknown(len(found)) for split, found in raw.items()}, "text_column")
    column = columns[0] if len(columns) == 1 else "label_column"
    if len(columns) > 1:
        return _flagged(raw, check_distinct("label_column", columns), column, ())
    if any(isinstance(one, tuple) for found in raw.values() for one in found):
        return _several(_all_lists(raw, column, called), column, called, limits, ())
    mark = next((mark for mark in SEPARATORS if any(mark in one for found in raw.values() for one in found if one)), "")
    if mark:
        parted = {split: [_parted(one, mark) for one in found] for split, found in raw.items()}
        note = Note(
            "labels_parted",
            f"labels of column {column!r} hold {mark!r} and are taken for several each, as in "
            f"{next(one for found in raw.values() for one in found if one and mark in one)!r:.80}",
        )
        return _several(parted, column, called, limits, (note,))
    return _single(raw, column, called, limits)


def check_numbered(numbered: Numbered, y_train: Labels, limits: Limits) -> int:
    """K, 0 where no text has a label; raises DataError or TooLarge where a class has too few training texts, or there
    is but one."""
    column = numbered.column
    if is_unknown(y_train):
        check_enough(sum(map(len, numbered.y.values())), "text", "path")
        return 0
    if y_train.ndim == 2:
        fix = "write the label itself, not a list or a column for each"
        refuse_one_hot(column, numbered.y.values(), fix, noun="text")
        return count_labels(column, y_train, numbered.class_names, limits, noun="text")
    if len(numbered.class_names) == 1:
        raise DataError(
            f"every label is {numbered.class_names[0]!r}, and one class leaves nothing to tell apart; add a second",
            field=column,
        )
    return count_classes(y_train, numbered.class_names, limits, field=column, noun="text")


def _parted(one: Raw, mark: str) -> tuple[str, ...]:
    return tuple(word for part in one.split(mark) if (word := part.strip())) if isinstance(one, str) else ()


def _all_lists(raw: Mapping[str, Sequence[Raw]], column: str, called: Called) -> dict[str, list[tuple[str, ...]]]:
    lists: dict[str, list[tuple[str, ...]]] = {}
    for split, found in raw.items():
        lists[split] = []
        for row, one in enumerate(found):
            if not isinstance(one, tuple):
                raise DataError(f"{called(split, row)}: is {one!r}, elsewhere a list; write a list here", field=column)
            lists[split].append(one)
    return lists


def _several(
    lists: Mapping[str, Sequence[tuple[str, ...]]],
    column: str,
    called: Called,
    limits: Limits,
    notes: tuple[Note, ...],
) -> Numbered:
    names = _known({split: [set(one) for one in found] for split, found in lists.items()}, column, called, limits)
    size_bytes = len(names) * sum(map(len, lists.values()))
    if size_bytes > limits.max_bytes:
        detail = f"{len(names):,} labels take {size_bytes:,} bytes, at most {limits.max_bytes:,}; leave rare ones out"
        raise TooLarge(detail, field=column)
    require_room(size_bytes, f"a table of {len(names):,} labels", field=column, fix="leave rare ones out")
    return _flagged(lists, names, column, notes)


def _flagged(
    lists: Mapping[str, Sequence[Raw]], names: tuple[str, ...], column: str, notes: tuple[Note, ...]
) -> Numbered:
    number = {name: i for i, name in enumerate(names)}
    y: dict[str, Labels] = {}
    for split, found in lists.items():
        y_NK = np.zeros((len(found), len(names)), dtype=np.uint8)
        for row, words in enumerate(found):
            for word in words or ():
                y_NK[row, number[word]] = 1
        y[split] = y_NK
    return Numbered(names, y, column, notes)


def _single(raw: Mapping[str, Sequence[Raw]], column: str, called: Called, limits: Limits) -> Numbered:
    sets: dict[str, list[set[str]]] = {}
    for split, found in raw.items():
        sets[split] = []
        for row, one in enumerate(found):
            if not isinstance(one, str):
                raise DataError(
                    f"{called(split, row)} has no label; give it one or move it to unlabelled.csv", field=column
                )
            sets[split].append({one})
    names = _known(sets, column, called, limits)
    from_0 = all(map(_WHOLE.fullmatch, names)) and int(names[0]) == 0
    number = {name: int(name) if from_0 else i for i, name in enumerate(names)}
    y: dict[str, Labels] = {
        split: np.fromiter((number[str(one)] for one in found), np.int64, len(found)) for split, found in raw.items()
    }
    return Numbered(() if from_0 else names, y, column)


def _known(sets: Mapping[str, Sequence[set[str]]], column: str, called: Called, limits: Limits) -> tuple[str, ...]:
    """The labels of the training texts, in order; raises DataError for one that only other texts have."""
    learned = ("train",) if limits.to_learn_from else tuple(sets)
    known = set[str]().union(*(words for split in learned for words in sets[split]))
    for split, found in sets.items():
        for row, words in enumerate(found):
            if strange := words - known:
                raise DataError(
                    f"{called(split, row)}: label {min(strange)!r} is on no training text; correct it, or add some",
                    field=column,
                )
    if any(map(_FRACTION.fullmatch, known)) and all(_WHOLE.fullmatch(w) or _FRACTION.fullmatch(w) for w in known):
        example = next(word for word in sorted(known) if _FRACTION.fullmatch(word))
        raise DataError(f"labels as {example} are measures, and only classes are learned; round them", field=column)
    if len(known) > limits.max_classes:
        raise TooLarge(f"has {len(known):,} labels, at most {limits.max_classes:,} are taken", field=column)
    return tuple(sorted(known, key=int) if all(map(_WHOLE.fullmatch, known)) else sorted(known))
