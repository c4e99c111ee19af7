"""From a file, folder or zip of texts to one `TextTable` with three splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from archsearch.data.duplicates import Words, look
from archsearch.data.limits import Limits
from archsearch.data.notes import Note
from archsearch.data.splits import complete
from archsearch.domains.text.columns import Wanted
from archsearch.domains.text.labels import Numbered, check_numbered, number_labels
from archsearch.domains.text.read import Texts, read_texts
from archsearch.domains.text.spec import MAX_LENGTH, OnDuplicates, TextData
from archsearch.domains.text.table import TableSplit, TextTable, make_table

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
    same. How far reading is hears whoever is `listening` (data/archive.py). Raises DataError or TooLarge whose `field`
    is a file, a column, `path` or the option that would help, and whose detail names the line.
    """
    limits = limits or Limits()
    wanted = Wanted(text_column, pair_column, label_column, split_column)
    texts, numbered, splits = _read(path, wanted, limits)
    classes = check_numbered(numbered, splits["train"].y_N, limits)
    looked = look(splits, content, duplicates, texts.called, WORDS)
    if duplicates == "drop":
        classes = check_numbered(numbered, looked.splits["train"].y_N, limits)
    splits = looked.splits
    three = complete(
        splits["train"], splits.get("selection"), splits.get("test"), looked.group_N, noun="text", field=numbered.column
    )
    return make_table(three, classes, numbered.class_names, max_length, (*numbered.notes, *looked.notes))


def load_spec(spec: TextData, limits: Limits | None = None) -> TextTable:
    """The texts a request names; see `load_text`."""
    return load_text(spec.path, limits, **{name: getattr(spec, name) for name in OPTIONS})


OPTIONS = tuple(name for name in TextData.model_fields if name not in ("kind", "path"))


def read_splits(
    path: Path, wanted: Wanted, limits: Limits
) -> tuple[dict[str, TableSplit], tuple[str, ...], tuple[Note, ...]]:
    """The splits the data has, none held out, and the names of its classes: for whoever measures and learns nothing."""
    _, numbered, splits = _read(path, wanted, replace(limits, min_per_class=0, to_learn_from=False))
    return splits, numbered.class_names, numbered.notes


def _read(path: Path, wanted: Wanted, limits: Limits) -> tuple[Texts, Numbered, dict[str, TableSplit]]:
    texts = read_texts(path, wanted, limits)
    raw = {split: part.labels for split, part in texts.parts.items()}
    numbered = number_labels(raw, texts.columns.labels, texts.called, limits)
    pair = texts.columns.pair is not None
    splits = {
        split: TableSplit(part.text.ragged(), part.pair.ragged() if pair else None, numbered.y[split])
        for split, part in texts.parts.items()
    }
    return texts, numbered, splits


def content(split: TableSplit, row: int) -> bytes:
    """What makes a text, or a pair, the same as another: all but blanks and capitals."""
    # NUL is in no text, so no two pairs are the same because one text took over from the other.
    return "\0".join(" ".join(text.split()).casefold() for text in split.texts(row)).encode()
