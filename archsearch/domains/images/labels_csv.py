"""Many labels an image, told by a table beside the images: labels.csv.

file,split,cat,dog
1.png,train,1,1
more/2.png,test,0,0
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsearch.data.labels import check_distinct, count_labels, refuse_one_hot
from archsearch.data.limits import Limits
from archsearch.data.task import Labels, unknown
from archsearch.domains.images.layout import (
    IMAGES,
    SPLIT_FOLDERS,
    UNLABELLED,
    UNLABELLED_FOLDERS,
    Layout,
    check_image_name,
    is_document,
)
from archsearch.errors import DataError, TooLarge

# N images, K labels

TABLE = "labels.csv"
SPLIT = "split"
FLAGS = {"0", "1"}
HEADER = "the first row has to be file,cat,dog, with a column for each class, and those below 1.png,1,0"


@dataclass(frozen=True)
class Row:
    """One line of the table: which image, in which split, and its labels as K digits 0 and 1."""

    name: str
    split: str
    flags: str


def find_table(names: Iterable[str]) -> str | None:
    """The labels.csv that lies at the top, or in the one folder that holds everything; elsewhere it is a document."""
    known = [name for name in names if not is_document(name) or name.split("/")[-1].lower() == TABLE]
    tops = {name.split("/")[0] for name in known}
    found = [name for name in known if name.lower() == TABLE]
    if len(tops) == 1:
        found += [name for name in known if name.lower() == f"{min(tops).lower()}/{TABLE}"]
    return found[0] if found else None


def plan_table(table: str, data: bytes, names: Iterable[str], limits: Limits) -> Layout:
    """The layout a table tells: a row for every image, with 0 or 1 for every class.

    The first column names the image, from the table's own folder; a column `split` is optional and says train, val or
    test; every other column is a class, by its name. Images in unlabelled/, beside the table, need no row. Raises
    DataError or TooLarge naming the table or the image.
    """
    folder = table.removesuffix(table.split("/")[-1])
    images = {name for name in names if not name.endswith("/") and not is_document(name)}
    class_names, rows = _read(table, folder, data, limits)
    apart = _check_images(table, rows, images)
    splits = {split: [row for row in rows if row.split == split] for split in ("train", "selection", "test")}
    splits = {split: sorted(found, key=lambda row: row.name) for split, found in splits.items() if found}
    if limits.to_learn_from and "train" not in splits:
        raise DataError("no row is of the split train; name it in some", field=table)
    files = {split: [row.name for row in found] for split, found in splits.items()}
    labels: dict[str, Labels] = {split: _stack(found, len(class_names)) for split, found in splits.items()}
    if len(rows) + len(apart) > limits.max_examples:
        raise TooLarge(f"{len(rows) + len(apart):,} images, at most {limits.max_examples:,} are taken", field="path")
    if apart:
        files[UNLABELLED], labels[UNLABELLED] = apart, unknown(len(apart))
    if not limits.to_learn_from:
        if not splits:
            raise DataError("names no image", field=table)
        return Layout(class_names, files, labels)
    told = [labels[split] for split in splits]
    refuse_one_hot(table, told, f"put each image into a folder of its class and remove {table}")
    count_labels(table, labels["train"], class_names, limits)
    return Layout(class_names, files, labels)


def _stack(rows: Sequence[Row], labels: int) -> npt.NDArray[np.uint8]:
    digits = "".join(row.flags for row in rows).encode("ascii")
    return np.frombuffer(digits, dtype=np.uint8).reshape(len(rows), labels) - np.uint8(ord("0"))


def _read(table: str, folder: str, data: bytes, limits: Limits) -> tuple[tuple[str, ...], list[Row]]:
    """The names of the classes, and every row below the header."""
    lines = _lines(table, data)
    _, columns = next(lines, (1, []))
    splits = [i for i, column in enumerate(columns) if i and column.lower() == SPLIT]
    class_names = check_distinct(table, [columns[i] for i in range(1, len(columns)) if i not in splits])
    if len(class_names) < 2 or len(splits) > 1:
        raise DataError(
            f"has {len(class_names)} classes in the columns {', '.join(columns[:8])}; {HEADER}", field=table
        )
    if len(class_names) > limits.max_classes:
        raise TooLarge(f"has {len(class_names):,} classes, at most {limits.max_classes:,} are taken", field=table)
    rows = []
    for line, cells in lines:
        if len(cells) != len(columns):
            raise DataError(f"line {line} has {len(cells)} cells, the first {len(columns)}; {HEADER}", field=table)
        split = _split(table, line, cells.pop(splits[0])) if splits else "train"
        name = folder + cells[0].removeprefix("./")
        rows.append(Row(name, split, _flags(table, line, class_names, cells[1:])))
        if len(rows) > limits.max_examples:
            raise TooLarge(f"names more than {limits.max_examples:,} images, which is the most taken", field=table)
    return class_names, rows


def _lines(table: str, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells, without blanks around them, of every row that is not empty."""
    try:
        text = data.decode("utf-8-sig")  # spreadsheets write the mark
    except UnicodeDecodeError:
        raise DataError("is not UTF-8; save it as 'CSV UTF-8'", field=table) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} is no CSV ({error}); {HEADER}", field=table) from None


def _split(table: str, line: int, cell: str) -> str:
    if cell.lower() not in SPLIT_FOLDERS:
        detail = f"line {line}: split is {cell!r}; write train, val or test, or leave the column out"
        raise DataError(detail, field=table)
    return SPLIT_FOLDERS[cell.lower()]


def _flags(table: str, line: int, class_names: Sequence[str], cells: Sequence[str]) -> str:
    if not FLAGS.issuperset(cells):
        wrong = next(i for i, cell in enumerate(cells) if cell not in FLAGS)
        detail = f"line {line}: {class_names[wrong]} is {cells[wrong]!r}; write 1 where the image has the label, else 0"
        raise DataError(detail, field=table)
    return "".join(cells)


def _check_images(table: str, rows: Sequence[Row], images: set[str]) -> list[str]:
    """The images without labels; raises DataError unless every other image has one row and every row its image."""
    seen: set[str] = set()
    for row in rows:
        if row.name not in images:
            near = [row.name + ending for ending in sorted(IMAGES) if row.name + ending in images]
            fix = f"did you mean {near[0]}?" if near else "names count from the table's folder: correct or remove it"
            raise DataError(f"there is no image {row.name}; {fix}", field=table)
        if row.name in seen:
            raise DataError(f"names {row.name} twice; keep one row", field=table)
        seen.add(row.name)
    apart = []
    for name in sorted(images):
        check_image_name(name)
        if name in seen:
            continue
        if _is_apart(table, name):
            apart.append(name)
        else:
            raise DataError(f"has no row in {table}; add one or remove the image", field=name)
    return apart


def _is_apart(table: str, name: str) -> bool:
    """Whether an image lies in unlabelled/, beside the table."""
    beside = name.removeprefix(table.removesuffix(table.split("/")[-1]))
    return beside.partition("/")[0].lower() in UNLABELLED_FOLDERS
