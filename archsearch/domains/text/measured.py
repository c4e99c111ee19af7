"""Texts to measure a network on that exists already: its own data again, or others with the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from archsearch.data.duplicates import look
from archsearch.data.limits import Limits
from archsearch.data.measured import Measured, Part
from archsearch.data.notes import Note
from archsearch.data.renumber import renumbered
from archsearch.data.splits import complete
from archsearch.data.task import is_unknown
from archsearch.domains.text.columns import Wanted
from archsearch.domains.text.load import WORDS, content, look_beside, read_splits
from archsearch.domains.text.spec import OnDuplicates, TextData
from archsearch.domains.text.table import UNLABELLED, TableSplit, TextTable, make_table
from archsearch.domains.text.task import TextTask
from archsearch.domains.text.tokenise import CUT, identity, tokenise
from archsearch.domains.text.tokenizer import TextTokenizer
from archsearch.errors import DataError, InvalidRequest

Given = Mapping[str, TableSplit]


def load_measured(
    spec: TextData,
    known: TextTask,
    tokenizer: TextTokenizer,
    part: Part = "auto",
    *,
    paired: bool | None = None,
    learned_from: str | None = None,
    limits: Limits | None = None,
) -> Measured:
    """The texts of a request's data to measure a network of a known task on, labelled in the network's order.

    `auto` is the test split where the data has one. Where it has none all texts are taken, for whoever gives data as a
    whole means it; but of the very data the network learned from, those that were held out then, and whatever split is
    asked for is the one it was then.

    Args:
        known: The network's task: its classes and, if it has any, their names; and how long its texts are.
        paired: Whether the network reads pairs; None where nobody knows, and the data says it.
        learned_from: The sha256 of the data the network learned from, where that is known: of its texts, or of its
            tokens.

    Raises DataError or InvalidRequest where the data is not the network's.
    """
    wanted = Wanted(spec.text_column, spec.pair_column, spec.label_column, spec.split_column)
    read, names, notes = read_splits(spec.path, wanted, limits or Limits())
    apart = read.pop(UNLABELLED, None)
    if all(is_unknown(split.y_N) for split in read.values()):
        raise InvalidRequest(
            "no text has a label to measure answers by; give labelled ones, in classes of the network's names",
            field="--data",
        )
    found = next(iter(read.values())).pair is not None
    if paired is not None and paired is not found:
        raise InvalidRequest(
            f"the student reads {'pairs of' if paired else 'single'} texts; name the columns", field="--data"
        )
    known = replace(known, pair=found)
    given, renamed = renumbered(read, names, known)
    notes, own = (*notes, *renamed), known.class_names if renamed else names
    whole, learned = _wholes(given, apart, known, own, tokenizer, learned_from)
    if part == "auto":
        part = "test" if "test" in given or learned is not None else "all"
        if learned is not None and "test" not in given:
            held = f"only the {len(learned.test):,} texts held out of it are measured"
            notes = (*notes, Note("held_out_measured", f"the network learned from this data: {held}"))
    if part == "all":
        test, told = _together(list(given.values())), _all_told(given, whole)
        return _measured(test, given, known, own, whole, tokenizer, part, (*notes, told))
    source = given
    if learned is not None or part not in given:
        held_out = learned or whole
        if held_out is None:
            detail = f"the data has no {part} split, and none can be held out of it; give it one"
            raise InvalidRequest(detail, field="--data")
        source = {"train": held_out.train, "selection": held_out.selection, "test": held_out.test}
    return _measured(source[part], given, known, own, learned or whole, tokenizer, part, notes)


def _measured(
    test: TableSplit,
    given: Given,
    known: TextTask,
    names: tuple[str, ...],
    whole: TextTable | None,
    tokenizer: TextTokenizer,
    part: str,
    notes: tuple[Note, ...],
) -> Measured:
    """The texts as the network reads them; what is looked at before is as separate from them as can be."""
    empty = test.take(slice(0, 0))
    selection = given.get("selection", test) if whole is None else whole.selection
    table = replace(make_table((test, selection, test), known.classes, names, known.max_length), train=empty)
    dataset = tokenise(table, tokenizer)
    prevalence = known.prevalence or (table if whole is None else whole).prevalence
    task = replace(dataset.task, class_names=known.class_names or names, prevalence=prevalence)
    # What is measured of the data a training makes goes by that data's name.
    sha256 = dataset.sha256 if whole is None or part == "all" else identity(whole, tokenizer, known.max_length)
    found = tuple(map(_as_read, dataset.notes))
    return Measured(replace(dataset, task=task, sha256=sha256, notes=()), part, (*notes, *found))


def _as_read(note: Note) -> Note:
    """What encoding found, said to somebody who cannot choose the length any more."""
    return replace(note, detail=f"{note.detail.partition(';')[0]}, as in its training") if note.code == CUT else note


def _all_told(given: Given, whole: TextTable | None) -> Note:
    detail = f"all {sum(map(len, given.values())):,} texts are measured; none are held out"
    if whole is not None:
        detail += f": --split test takes the {len(whole.test):,} that a training would not see"
    return Note("all_measured", detail)


def _wholes(
    given: Given,
    apart: TableSplit | None,
    known: TextTask,
    names: tuple[str, ...],
    tokenizer: TextTokenizer,
    learned_from: str | None,
) -> tuple[TextTable | None, TextTable | None]:
    """The table a training would make of the texts as they are, and the very one the network learned from.

    Either is None where there is none. Who trained may have left out texts that are there twice.
    """
    whole = _whole(given, apart, known, names, "warn")
    if learned_from is None:
        return whole, None
    for table in (whole, _whole(given, apart, known, names, "drop")):
        if table is not None and learned_from in (table.sha256, identity(table, tokenizer, known.max_length)):
            return whole, table
    return whole, None


def _whole(
    given: Given, apart: TableSplit | None, known: TextTask, names: tuple[str, ...], duplicates: OnDuplicates
) -> TextTable | None:
    """The table a training would make of it; None where there is too little to train on."""
    if "train" not in given:
        return None
    try:
        looked = look(given, content, duplicates, lambda split, row: f"text {row} of {split}", WORDS)
        left = looked.splits
        y_train = left["train"].y_N
        if y_train.ndim == 1 and np.bincount(y_train, minlength=known.classes).min() == 0:
            return None
        splits = complete(left["train"], left.get("selection"), left.get("test"), looked.group_N, noun="text")
        left_apart, _ = look_beside(splits, apart, duplicates, lambda row: f"text {row} of {UNLABELLED}")
    except DataError:
        return None
    return make_table(splits, known.classes, names, known.max_length, unlabelled=left_apart)


def _together(splits: list[TableSplit]) -> TableSplit:
    return splits[0].joined(splits[1:])
