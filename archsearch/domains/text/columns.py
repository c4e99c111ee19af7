"""Which columns of a table hold the text, its pair, the label and the split: as they are named, or by usual names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from archsearch.errors import DataError

# The first of each, where it is there, is meant whatever is beside it; of the others there can be but one.
TEXTS = ("text", "sentence", "review", "content", "comment", "comment_text", "message", "tweet", "document")
LABELS = ("label", "labels", "category", "class", "sentiment", "intent", "topic", "target")
SPLIT = "split"
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
)


@dataclass(frozen=True)
class Wanted:
    """Columns as a request names them, None where it leaves them to be found; see `spec.TextData`."""

    text: str | None = None
    pair: str | None = None
    label: str | tuple[str, ...] | None = None
    split: str | None = None


@dataclass(frozen=True)
class Columns:
    """Columns as the table has them: one of labels, or several of 0 and 1, or none where no text has a label."""

    text: str
    pair: str | None
    labels: tuple[str, ...]
    split: str | None


def find_columns(names: Sequence[str], wanted: Wanted, *, split_known: bool) -> Columns:
    """The columns meant; raises DataError whose `field` is that of the request that would name one.

    Texts have no labels where no column is named for them and the table has none but those of the texts: any other
    might be theirs.

    Args:
        split_known: Whether files tell the splits, so that no column does.
    """
    if split_known and wanted.split is not None:
        raise DataError("files tell the splits by their names; leave it out, or give one file", field="split_column")
    text, pair = find_texts(names, wanted)
    split = None if split_known else _named(names, wanted.split, "split_column") or _spelt(names, SPLIT)
    label = (wanted.label,) if isinstance(wanted.label, str) else wanted.label
    if label is None:
        rest = [name for name in names if name not in (text, pair, split)]
        found_label = _only(rest, LABELS, "label_column", "label")
        labels: tuple[str, ...] = () if found_label is None else (found_label,)
        if rest and not labels:
            _absent(names, "label_column", "label")
    else:
        labels = tuple(_named(names, name, "label_column") or name for name in label)
    found = [name for name in (text, pair, *labels, split) if name is not None]
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise DataError(f"column {twice!r} is named for two things; name another", field="label_column")
    return Columns(text, pair, labels, split)


def find_texts(names: Sequence[str], wanted: Wanted) -> tuple[str, str | None]:
    """The column of the text and, where examples are pairs, that of the second; raises DataError."""
    text, pair = _named(names, wanted.text, "text_column"), _named(names, wanted.pair, "pair_column")
    if text is not None:
        return text, pair
    known = [(_spelt(names, one), _spelt(names, two)) for one, two in PAIRS]
    for first, second in known:
        if first is not None and second is not None and pair in (None, second):
            return first, second
    rest = [name for name in names if name != pair]
    return _only(rest, TEXTS, "text_column", "text") or _absent(names, "text_column", "text"), pair


def _named(names: Sequence[str], name: str | None, field: str) -> str | None:
    """The column a request names, whose capitals may differ; raises DataError where there is none."""
    if name is None:
        return None
    found = name if name in names else _spelt(names, name)
    if found is None:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"there is no column {name!r}, only {_listing(names)}{hint}", field=field)
    return found


def _spelt(names: Sequence[str], known: str) -> str | None:
    return next((name for name in names if name.strip().casefold() == known.casefold()), None)


def _only(names: Sequence[str], known: Sequence[str], field: str, what: str) -> str | None:
    found = [name for one in known if (name := _spelt(names, one)) is not None]
    if len(found) > 1 and found[0].casefold() != known[0]:
        few = " and ".join(map(repr, found[:2]))
        raise DataError(f"columns {few} could both be the {what}; name the one that is", field=field)
    return found[0] if found else None


def _absent(names: Sequence[str], field: str, what: str) -> str:
    raise DataError(
        f"no column is called as a {what} usually is, only {_listing(names)}; name it, or add a first row with names "
        "where that is none",
        field=field,
    )


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
