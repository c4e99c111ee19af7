"""Texts with labels as they were read: what every teacher's tokenizer begins with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from archsearch.data.labels import prevalence
from archsearch.data.notes import Note
from archsearch.data.ragged import Ragged, stacked
from archsearch.data.task import Kind, Labels, Rows, Truth, joined_labels
from archsearch.domains.text.spec import MAX_LENGTH
from archsearch.domains.text.task import TextTask

# N texts, K classes

SPLITS = ("train", "selection", "test")
# What texts that nobody has labelled are called, as a split.
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class TableSplit:
    """Texts as bytes of UTF-8, and their labels.

    Attributes:
        text, pair: uint8; `pair` is the second text of each, None where texts are single.
        y_N: int64 in [0, classes). Of a multi-label table it is N×K, uint8: 1 where a text has a label, else 0.
    """

    text: Ragged
    pair: Ragged | None
    y_N: Labels

    def __len__(self) -> int:
        return len(self.y_N)

    def take(self, rows: Rows) -> TableSplit:
        """The texts of these rows with their labels; no text is copied."""
        return TableSplit(self.text.take(rows), None if self.pair is None else self.pair.take(rows), self.y_N[rows])

    def joined(self, others: Sequence[Self]) -> TableSplit:
        """See `data.task.Split`; texts are copied."""
        if not others:
            return self
        every = (self, *others)
        pairs = [split.pair for split in every if split.pair is not None]
        labels = joined_labels([split.y_N for split in every])
        return TableSplit(stacked([split.text for split in every]), stacked(pairs) if pairs else None, labels)

    def texts(self, row: int) -> tuple[str, ...]:
        """The text of a row, or both of its pair."""
        return tuple(column[row].tobytes().decode() for column in (self.text, self.pair) if column is not None)


@dataclass(frozen=True)
class TextTable:
    """Texts in three splits, with labels; `sha256` names the texts, labels and names of classes.

    Attributes:
        classes: How many answers there are (count).
        class_names: In label order; empty where labels are the numbers from 0 and no names are known.
        kind: Whether each text has one label, or any number of them (`multilabel`), none included.
        prevalence: Share of the training texts that have each class or label.
        max_length: Tokens a text may have, as the request has it; no part of `sha256`.
        notes: What reading found that the owner should hear.
        unlabelled: Texts that nobody has labelled; None where there are none, or no text has a label.
        truth: What is held to be right; see `data.task.Task`. Without labels there are no classes yet.
    """

    classes: int
    class_names: tuple[str, ...]
    kind: Kind
    prevalence: tuple[float, ...]
    train: TableSplit
    selection: TableSplit
    test: TableSplit
    sha256: str
    max_length: int = MAX_LENGTH
    notes: tuple[Note, ...] = ()
    unlabelled: TableSplit | None = None
    truth: Truth = "labels"

    @property
    def task(self) -> TextTask:
        """The question, before any tokenizer is known: of no vocabulary."""
        known = self.class_names, self.kind, self.prevalence, self.truth
        return TextTask(self.classes, self.max_length, 0, 0, self.pair, *known)

    @property
    def pair(self) -> bool:
        """Whether each example is two texts."""
        return self.train.pair is not None


def make_table(
    splits: tuple[TableSplit, TableSplit, TableSplit],
    classes: int,
    class_names: tuple[str, ...],
    max_length: int = MAX_LENGTH,
    notes: tuple[Note, ...] = (),
    unlabelled: TableSplit | None = None,
) -> TextTable:
    """The table of three checked splits; labels N×K make it a multi-label one, no classes the teacher's."""
    y_train = splits[0].y_N
    kind: Kind = "multilabel" if y_train.ndim == 2 else "classification"
    name, shares = fingerprint(splits, class_names, unlabelled), prevalence(y_train, classes) if classes else ()
    truth: Truth = "labels" if classes else "teacher"
    return TextTable(classes, class_names, kind, shares, *splits, name, max_length, notes, unlabelled, truth)


def fingerprint(
    splits: tuple[TableSplit, TableSplit, TableSplit],
    class_names: tuple[str, ...],
    unlabelled: TableSplit | None = None,
) -> str:
    """SHA-256, in hex, over all texts, labels and names of classes, whatever file they came from."""
    digest = hashlib.sha256(json.dumps(class_names).encode())
    named = dict(zip(SPLITS, splits, strict=True))
    for name, split in (named if unlabelled is None else {**named, UNLABELLED: unlabelled}).items():
        for column in (split.text, split.pair):
            if column is not None:
                flat_F, starts_N1 = column.packed()
                digest.update(f"{name} texts {len(column)} {len(flat_F)}\n".encode())
                digest.update(np.ascontiguousarray(flat_F).data)
                digest.update(np.ascontiguousarray(starts_N1, dtype="<i8").data)
        kind, bytes_ = ("int64", "<i8") if split.y_N.ndim == 1 else ("uint8", "u1")
        digest.update(f"{name} {kind} {split.y_N.shape}\n".encode())
        digest.update(np.ascontiguousarray(split.y_N, dtype=bytes_).data)
    return digest.hexdigest()
