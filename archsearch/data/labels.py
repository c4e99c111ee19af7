"""What counts as labels: whole numbers 0 to K-1, every class with enough to learn from."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.limits import Limits
from archsearch.errors import DataError, TooLarge

# N images, K classes


def check_label_layout(key: str, shape: tuple[int, ...], dtype: np.dtype[Any], images: int) -> None:
    """Raises DataError unless shape and type are those of one whole-number label an image; needs no label."""
    if len(shape) != 1:
        fix = f"save {key}.argmax(axis=1)" if len(shape) == 2 and shape[1] > 1 else f"save {key}.ravel()"
        raise DataError(f"has shape {shape}; labels are one whole number an image: {fix}", field=key)
    if dtype.kind not in "iu":
        raise DataError(f"has type {dtype}; labels are whole numbers: save {key}.astype(np.int64)", field=key)
    if shape[0] != images:
        x_key = key.replace("y_", "x_", 1)
        raise DataError(f"has {shape[0]:,} labels for the {images:,} images of {x_key}; give one for each", field=key)


def check_labels(key: str, y_N: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """The labels as int64; raises DataError naming the first that is negative or beyond 64 bits."""
    wrong_N = (y_N < 0) | (y_N > np.iinfo(np.int64).max)
    if wrong_N.any():
        row = int(wrong_N.argmax())
        raise DataError(f"label {y_N[row]} of image {row} is out of range; number the classes from 0", field=key)
    return np.ascontiguousarray(y_N, dtype=np.int64)


def count_classes(y_N: npt.NDArray[np.int64], class_names: tuple[str, ...], limits: Limits) -> int:
    """K, from the names where there are any, else from the largest training label; raises DataError or TooLarge.

    Every class from 0 to K-1 has to have `limits.min_per_class` training images.
    """
    classes = len(class_names) or int(y_N.max()) + 1
    check_range("y_train", y_N, classes)
    if classes > limits.max_classes:
        raise TooLarge(
            f"labels up to {classes - 1} mean {classes:,} classes, at most {limits.max_classes:,} are taken; "
            "number the classes 0, 1, 2, … without gaps",
            field="y_train",
        )
    if classes < 2:
        raise DataError("all labels are 0, and one class leaves nothing to tell apart; add a second", field="y_train")
    counts_K = np.bincount(y_N, minlength=classes)
    if counts_K.min() < limits.min_per_class:
        _refuse_rare(counts_K, class_names, limits.min_per_class)
    return classes


def check_range(key: str, y_N: npt.NDArray[np.int64], classes: int) -> None:
    """Raises DataError naming the first label that is not below `classes`."""
    if y_N.max() >= classes:
        row = int((y_N >= classes).argmax())
        raise DataError(
            f"label {y_N[row]} of image {row} is out of range: there are {classes} classes, 0 to {classes - 1}; "
            "correct the label, or add training images (and a class name) of that class",
            field=key,
        )


def check_names(names: npt.NDArray[Any], limits: Limits) -> tuple[str, ...]:
    """The class names as text; raises DataError for another type or shape, an empty name or one given twice."""
    if names.dtype.kind != "U" or names.ndim != 1 or not 1 <= len(names) <= limits.max_classes:
        raise DataError(
            f"has type {names.dtype} and shape {names.shape}; save one text for each class: np.array(['cat', 'dog'])",
            field="class_names",
        )
    texts = tuple(str(name) for name in names)
    counts = Counter(texts)
    for i, text in enumerate(texts):
        if not text.strip() or counts[text] > 1:
            raise DataError(f"name {i}, {text!r}, is empty or given twice; make them differ", field="class_names")
    return texts


def _refuse_rare(counts_K: npt.NDArray[np.intp], class_names: tuple[str, ...], least: int) -> None:
    # An absent class first: it means wrong numbering, where a rare one means too little data.
    label = int(counts_K.argmin())
    name = f"class {label} ({class_names[label]!r})" if class_names else f"class {label}"
    if counts_K[label] == 0:
        fix = f"number the classes 0 to {len(np.flatnonzero(counts_K)) - 1} without gaps, or add images of it"
        raise DataError(f"{name} of 0 to {len(counts_K) - 1} has no training image; {fix}", field="y_train")
    raise DataError(
        f"{name} has {counts_K[label]} training image(s), {least} or more are needed; add images or drop the class",
        field="y_train",
    )
