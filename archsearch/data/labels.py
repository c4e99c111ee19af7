"""What counts as labels: whole numbers 0 to K-1, or N×K of 0 and 1; every class with enough to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.limits import Limits
from archsearch.data.task import Labels
from archsearch.errors import DataError, TooLarge

# N images, K classes


def check_label_layout(key: str, shape: tuple[int, ...], dtype: np.dtype[Any], images: int) -> None:
    """Raises DataError unless shape and type are those of one label an image, or of N×K 0 and 1; needs no label."""
    if len(shape) == 2 and shape[1] > 1:
        if dtype.kind not in "biu":
            raise DataError(
                f"has shape {shape} and type {dtype}; labels are one whole number an image, or a column of whole "
                f"numbers 0 and 1 for each of many labels: save {key}.argmax(axis=1), or {key}.astype(np.uint8)",
                field=key,
            )
    elif len(shape) != 1:
        raise DataError(f"has shape {shape}; labels are one whole number an image: save {key}.ravel()", field=key)
    elif dtype.kind not in "iu":
        raise DataError(f"has type {dtype}; labels are whole numbers: save {key}.astype(np.int64)", field=key)
    if shape[0] != images:
        x_key = key.replace("y_", "x_", 1)
        raise DataError(f"has {shape[0]:,} labels for the {images:,} images of {x_key}; give one for each", field=key)


def check_labels(key: str, y_N: npt.NDArray[Any]) -> Labels:
    """The labels as int64, or N×K as uint8; raises DataError naming the first that is out of range."""
    if y_N.ndim == 2:
        return _check_flags(key, y_N)
    wrong_N = (y_N < 0) | (y_N > np.iinfo(np.int64).max)
    if wrong_N.any():
        row = int(wrong_N.argmax())
        raise DataError(f"label {y_N[row]} of image {row} is out of range; number the classes from 0", field=key)
    return np.ascontiguousarray(y_N, dtype=np.int64)


def _check_flags(key: str, y_NK: npt.NDArray[Any]) -> Labels:
    wrong_NK = (y_NK != 0) & (y_NK != 1)
    if wrong_NK.any():
        row, column = (int(i) for i in np.unravel_index(wrong_NK.argmax(), wrong_NK.shape))
        raise DataError(
            f"column {column} of image {row} is {y_NK[row, column]}; of many labels an image has (1) or lacks (0) each",
            field=key,
        )
    return np.ascontiguousarray(y_NK, dtype=np.uint8)


def count_classes(
    y_N: Labels, class_names: tuple[str, ...], limits: Limits, *, field: str = "y_train", noun: str = "image"
) -> int:
    """K, from the names where there are any, else from the largest training label; raises DataError or TooLarge.

    Every class from 0 to K-1 has to have `limits.min_per_class` training examples, each called a `noun`.
    """
    classes = len(class_names) or int(y_N.max()) + 1
    check_range(field, y_N, classes, noun)
    if classes > limits.max_classes:
        raise TooLarge(
            f"labels up to {classes - 1} mean {classes:,} classes, at most {limits.max_classes:,} are taken; "
            "number the classes 0, 1, 2, … without gaps",
            field=field,
        )
    if classes > len(y_N) and not class_names:  # a table of their counts could be of any size
        raise DataError(
            f"labels up to {classes - 1} mean {classes:,} classes, and there are {len(y_N):,} labels; number the "
            "classes 0, 1, 2, … without gaps",
            field=field,
        )
    if classes < 2:
        raise DataError("all labels are 0, and one class leaves nothing to tell apart; add a second", field=field)
    counts_K = np.bincount(y_N, minlength=classes)
    if counts_K.min() < limits.min_per_class:
        _refuse_rare(counts_K, class_names, limits.min_per_class, field, noun)
    return classes


def check_range(key: str, y_N: Labels, classes: int, noun: str = "image") -> None:
    """Raises DataError naming the first label that is not below `classes`."""
    if y_N.max() >= classes:
        row = int((y_N >= classes).argmax())
        raise DataError(
            f"label {y_N[row]} of {noun} {row} is out of range: there are {classes} classes, 0 to {classes - 1}; "
            f"correct the label, or add training {noun}s (and a class name) of that class",
            field=key,
        )


def count_labels(field: str, y_NK: Labels, class_names: Sequence[str], limits: Limits, *, noun: str = "image") -> int:
    """K, the columns of the training split's labels; raises DataError or TooLarge.

    Every label has to be on `limits.min_per_class` training examples, each called a `noun`, and one has to be without.
    """
    labels = int(y_NK.shape[1])
    if labels > limits.max_classes:
        raise TooLarge(f"has {labels:,} labels, at most {limits.max_classes:,} are taken; leave some out", field=field)
    positives_K = y_NK.sum(axis=0, dtype=np.int64)
    bad = np.flatnonzero((positives_K < limits.min_per_class) | (positives_K == len(y_NK)))
    if bad.size:
        label, count = int(bad[0]), positives_K[bad[0]]
        if count == len(y_NK):
            detail = f"is on every training {noun}, which leaves nothing to tell apart; add {noun}s without it"
        else:
            detail = f"is on {count} training {noun}(s), {limits.min_per_class} or more are needed; add {noun}s with it"
        raise DataError(f"{_called('label', label, class_names)} {detail}, or drop the label", field=field)
    return labels


def refuse_one_hot(field: str, splits: Iterable[Labels], fix: str, *, noun: str = "image") -> None:
    """Raise DataError where every example has exactly one of the labels: that is another task, with better losses."""
    if all((y_NK.sum(axis=1, dtype=np.int64) == 1).all() for y_NK in splits):
        raise DataError(f"every {noun} has exactly one label; {fix}, to train with one label each", field=field)


def check_names(names: npt.NDArray[Any], limits: Limits) -> tuple[str, ...]:
    """The class names as text; raises DataError for another type or shape, an empty name or one given twice."""
    if names.dtype.kind != "U" or names.ndim != 1 or not 1 <= len(names) <= limits.max_classes:
        raise DataError(
            f"has type {names.dtype} and shape {names.shape}; save one text for each class: np.array(['cat', 'dog'])",
            field="class_names",
        )
    try:
        texts = [str(name) for name in names]
    except (ValueError, SystemError) as error:  # NumPy keeps numbers that are no character's
        raise DataError(f"holds what is no text ({error}); save the names again", field="class_names") from None
    return check_distinct("class_names", texts)


def check_distinct(field: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names; raises DataError for an empty one, one given twice, or one that is no Unicode text."""
    for i, text in enumerate(names):
        if not is_text(text):
            raise DataError(f"name {i}, {text!a}, is no Unicode text; write it anew", field=field)
    counts = Counter(names)
    for i, text in enumerate(names):
        if not text.strip() or counts[text] > 1:
            raise DataError(f"name {i}, {text!r}, is empty or given twice; make them differ", field=field)
    return tuple(names)


def is_text(text: str) -> bool:
    """Whether it can be written anywhere: half of a surrogate pair cannot, in no file, answer or database."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _called(noun: str, number: int, class_names: Sequence[str]) -> str:
    return f"{noun} {number} ({class_names[number]!r})" if class_names else f"{noun} {number}"


def _refuse_rare(
    counts_K: npt.NDArray[np.intp], class_names: tuple[str, ...], least: int, field: str, noun: str
) -> None:
    # An absent class first: it means wrong numbering, where a rare one means too little data.
    label = int(counts_K.argmin())
    name = _called("class", label, class_names)
    if counts_K[label] == 0:
        fix = f"number the classes 0 to {len(np.flatnonzero(counts_K)) - 1} without gaps, or add {noun}s of it"
        raise DataError(f"{name} of 0 to {len(counts_K) - 1} has no training {noun}; {fix}", field=field)
    raise DataError(
        f"{name} has {counts_K[label]} training {noun}(s), {least} or more are needed; add {noun}s or drop the class",
        field=field,
    )


def prevalence(y_N: Labels, classes: int) -> tuple[float, ...]:
    """Share of the examples that have each class or label."""
    counts_K = y_N.sum(axis=0, dtype=np.int64) if y_N.ndim == 2 else np.bincount(y_N, minlength=classes)
    return tuple((counts_K / len(y_N)).tolist())
