"""From a file, folder or zip of texts to one `TextTable` with three splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from archsearch.data.duplicates import Words, look, look_apart
from archsearch.data.limits import Limits
from archsearch.data.notes import Note
from archsearch.data.splits import complete
from archsearch.data.task import unknown
from archsearch.data.unlabelled import no_labels
from archsearch.domains.text.columns import Wanted
from archsearch.domains.text.labels import Numbered, check_numbered, number_labels
from archsearch.domains.text.read import Texts, read_texts
from archsearch.domains.text.spec import MAX_LENGTH, OnDuplicates, TextData
from archsearch.domains.text.table import SPLITS, UNLABELLED, TableSplit, TextTable, make_table

WORDS = Words("texts", "they differ in blanks and capitals at most")


def load_text(
    path: Path,
    limits: Limits | None = None,
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | tuple[str, ...] | None = None,
    split_column: str | None = None,
    max_length: int = MAX_LENGTH,
    duplicates: OnDuplicates = "refuse",
) -> TextTable:
    """The texts of a csv, tsv or jsonl file (.gz too), or of a folder or zip of train, validation and test.

    Options are those of `spec.TextData`. Splits that are missing are held out of train, stratified and always the
    same. Texts of unlabelled.csv (.tsv, .jsonl, or .txt with one on every line), beside train, have no labels; where
    that is all there is, or a table has no other columns than the texts', none has, and the teacher's classes will be
    the task. How far reading is hears whoever is `listening` (data/archive.py). Raises DataError or TooLarge whose
    `field` is a file, a column, `path` or the option that would help, and whose detail names the line.
    """
    limits = limits or Limits()
    wanted = Wanted(text_column, pair_column, label_column, split_column)
    texts, numbered, splits = _read(path, wanted, limits)
    apart = splits.pop(UNLABELLED, None)
    classes = check_numbered(numbered, splits["train"].y_N, limits)
    looked = look(splits, content, duplicates, texts.called, WORDS)
    if duplicates == "drop":
        classes = check_numbered(numbered, looked.splits["train"].y_N, limits)
    splits = looked.splits
    three = complete(
        splits["train"], splits.get("selection"), splits.get("test"), looked.group_N, noun="text", field=numbered.column
    )
    apart, notes = look_beside(three, apart, duplicates, lambda row: texts.called(UNLABELLED, row))
    notes = (*(() if classes else (no_labels("text"),)), *numbered.notes, *looked.notes, *notes)
    return make_table(three, classes, numbered.class_names, max_length, notes, apart)


def look_beside(
    three: tuple[TableSplit, TableSplit, TableSplit],
    apart: TableSplit | None,
    duplicates: OnDuplicates,
    called: Callable[[int], str],
) -> tuple[TableSplit | None, tuple[Note, ...]]:
    """What is left of texts without labels beside the splits, and what was found; see `data.duplicates.look_apart`."""
    if apart is None:
        return None, ()
    return look_apart(dict(zip(SPLITS, three, strict=True)), apart, content, duplicates, called, WORDS)


def load_spec(spec: TextData, limits: Limits | None = None) -> TextTable:
    """The texts a request names; see `load_text`."""
    return load_text(spec.path, limits, **{name: getattr(spec, name) for name in OPTIONS})


OPTIONS = tuple(name for name in TextData.model_fields if name not in ("kind", "path"))


def read_splits(
    path: Path, wanted: Wanted, limits: Limits
) -> tuple[dict[str, TableSplit], tuple[str, ...], tuple[Note, ...]]:
    """The splits the data has, none held out, and the names of its classes: for whoever measures and learns nothing.
    Texts without labels, beside others with, are one more split."""
    _, numbered, splits = _read(path, wanted, replace(limits, min_per_class=0, to_learn_from=False))
    return splits, numbered.class_names, numbered.notes


def _read(path: Path, wanted: Wanted, limits: Limits) -> tuple[Texts, Numbered, dict[str, TableSplit]]:
    texts = read_texts(path, wanted, limits)
    raw = {split: part.labels for split, part in texts.parts.items() if split != UNLABELLED}
    numbered = number_labels(raw, texts.columns.labels, texts.called, limits)
    pair = texts.columns.pair is not None
    splits = {
        split: TableSplit(
            part.text.ragged(),
            part.pair.ragged() if pair else None,
            numbered.y[split] if split in numbered.y else unknown(len(part.lines)),
        )
        for split, part in texts.parts.items()
    }
    return texts, numbered, splits


def content(split: TableSplit, row: int) -> bytes:
    """What makes a text, or a pair, the same as another: all but blanks and capitals."""
    # NUL is in no text, so no two pairs are the same because one text took over from the other.
    return "\0".join(" ".join(text.split()).casefold() for text in split.texts(row)).encode()
