"""The same example twice: in train and test, where it tests nothing, or in two classes, where one of them is wrong.

What makes two examples the same is their domain's business.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from archsearch.data.notes import Note
from archsearch.data.task import Labelled
from archsearch.errors import DataError
from archsearch.request import OnDuplicates

# N examples of all splits, G of them in some group

# Shares above which the data is refused: of a split, examples that are in train too; of all, those in two classes.
LEAKED, TORN = 0.10, 0.05
FIX = "remove them, or set duplicates to drop to leave them out, or to warn to take them as they are"

ORDER = ("train", "selection", "test")
Rows = npt.NDArray[np.intp]
# What an example of a split is called, by its row.
Called = Callable[[str, int], str]
S = TypeVar("S", bound=Labelled)


@dataclass(frozen=True)
class Words:
    """How examples of a domain are spoken of.

    Attributes:
        many: What they are, as in "12 images".
        same: What two that are the same have in common, as in "though every pixel is the same".
    """

    many: str
    same: str


@dataclass(frozen=True)
class Looked(Generic[S]):
    """Splits after the look.

    Attributes:
        splits: Without what was to be dropped.
        group_N: For every training example the first row with the same; None where all differ.
        notes: What was found, with counts.
    """

    splits: dict[str, S]
    group_N: Rows | None
    notes: tuple[Note, ...]


def look(
    splits: Mapping[str, S],
    content: Callable[[S, int], bytes | memoryview],
    wanted: OnDuplicates,
    called: Called,
    words: Words,
) -> Looked[S]:
    """Find examples that are there twice, and do with them what is wanted.

    Args:
        splits: `train`, and the others that were given: what is held out later cannot share an example with train.
        content: Of an example of a split, by its row, the bytes that make it the same as another.
        wanted: `refuse` where they are more than a few and note them otherwise; `warn`, which only notes; `drop`.
        called: For messages.

    Raises DataError where the data is refused.
    """
    splits = {name: splits[name] for name in ORDER if name in splits}
    group_N = _groups(splits, content)
    if group_N is None:
        return Looked(dict(splits), None, ())
    torn_N, leaked, notes = _torn(splits, group_N), _leaked(splits, group_N), list[Note]()
    starts = _starts(splits)

    def example(first: int, second: int) -> str:
        names = []
        for row in (first, second):
            split = next(name for name in reversed(starts) if starts[name] <= row)
            names.append(called(split, row - starts[split]))
        return f"{names[1]} is {names[0]}"

    if torn_N.any():
        row = int(torn_N.nonzero()[0][-1])
        detail = (
            f"{int(torn_N.sum()):,} of {len(group_N):,} {words.many} have other labels elsewhere, though {words.same} "
            f"({_first_other(splits, group_N, row, example)})"
        )
        _told("conflicting_labels", detail, torn_N.mean() > TORN, wanted, notes)
    for (name, other), leaked_M in leaked.items():
        row = int(leaked_M.nonzero()[0][0])
        detail = (
            f"{int(leaked_M.sum()):,} of {len(leaked_M):,} {name} {words.many} are also in {other} "
            f"({example(int(group_N[starts[name] + row]), starts[name] + row)})"
        )
        _told(f"{name}_{words.many}_in_{other}", detail, leaked_M.mean() > LEAKED, wanted, notes)
    if wanted == "drop":
        return _dropped(splits, group_N, torn_N, tuple(notes), words)
    own_N = group_N[: len(splits["train"])]
    copies = len(own_N) - len(np.unique(own_N))
    return Looked(dict(splits), own_N if copies else None, (*notes, *_repeated(copies, len(own_N), words)))


def _told(code: str, detail: str, many: bool, wanted: OnDuplicates, notes: list[Note]) -> None:
    if many and wanted == "refuse":
        raise DataError(f"{detail}; {FIX}", field="duplicates")
    notes.append(Note(code, detail))


def _repeated(copies: int, examples: int, words: Words) -> tuple[Note, ...]:
    if not copies:
        return ()
    detail = (
        f"{copies:,} of {examples:,} training {words.many} are copies of others; where {words.many} are held out of "
        "train, copies stay together as far as every class keeps some"
    )
    return (Note(f"repeated_{words.many}", detail),)


def _groups(splits: Mapping[str, S], content: Callable[[S, int], bytes | memoryview]) -> Rows | None:
    """For every example the first row, counted over all splits, that is the same; None where all differ."""
    # A checksum of 32 bits finds who may be the same, a hash of 128 who is.
    sums_N = np.concatenate(
        [
            np.fromiter((zlib.crc32(content(split, row)) for row in range(len(split))), np.uint32, len(split))
            for split in splits.values()
        ]
    )
    _, inverse_N, counts = np.unique(sums_N, return_inverse=True, return_counts=True)
    suspects_G = np.flatnonzero(counts[inverse_N] > 1)
    if not suspects_G.size:
        return None
    listed, starts = list(splits.values()), list(_starts(splits).values())
    group_N, first = np.arange(len(sums_N)), dict[bytes, int]()
    for row in suspects_G.tolist():
        own = int(np.searchsorted(starts, row, side="right")) - 1
        digest = hashlib.blake2b(content(listed[own], row - starts[own]), digest_size=16).digest()
        group_N[row] = first.setdefault(digest, row)
    return group_N if len(np.unique(group_N)) < len(group_N) else None


def _torn(splits: Mapping[str, Labelled], group_N: Rows) -> npt.NDArray[np.bool_]:
    """Whether an example has another label elsewhere."""
    y_N = np.concatenate([split.y_N for split in splits.values()])
    differs_N = y_N != y_N[group_N]
    if differs_N.ndim == 2:
        differs_N = differs_N.any(axis=1)
    return np.isin(group_N, group_N[differs_N])


def _leaked(splits: Mapping[str, Labelled], group_N: Rows) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
    """For each pair of splits that share examples, which of the first are in the second."""
    starts = _starts(splits)
    own = {name: group_N[starts[name] : starts[name] + len(split)] for name, split in splits.items()}
    pairs = (("selection", "train"), ("test", "train"), ("test", "selection"))
    found = {(a, b): np.isin(own[a], own[b]) for a, b in pairs if a in own and b in own}
    return {pair: leaked_M for pair, leaked_M in found.items() if leaked_M.any()}


def _first_other(splits: Mapping[str, Labelled], group_N: Rows, row: int, example: Callable[[int, int], str]) -> str:
    """An example that is the same as this one and has another label."""
    y_N = np.concatenate([split.y_N for split in splits.values()])
    same = np.flatnonzero(group_N == group_N[row])
    other = next(int(one) for one in same if np.any(y_N[one] != y_N[row]))
    return example(min(row, other), max(row, other))


def _dropped(
    splits: Mapping[str, S], group_N: Rows, torn_N: npt.NDArray[np.bool_], notes: tuple[Note, ...], words: Words
) -> Looked[S]:
    """Each example once: in test before selection, there before train; nowhere if its labels differ."""
    starts, seen = _starts(splits), group_N[torn_N]
    kept: dict[str, S] = {}
    for name in ("test", "selection", "train"):
        if name in splits:
            own = group_N[starts[name] : starts[name] + len(splits[name])]
            _, first = np.unique(own, return_index=True)
            rows = np.sort(first[~np.isin(own[first], seen)])
            if not len(rows):
                raise DataError(f"none of the {name} {words.many} is left without duplicates", field="duplicates")
            kept[name], seen = splits[name].take(rows), np.concatenate([seen, own])
    left = sum(map(len, kept.values()))
    detail = f"{len(group_N) - left:,} of {len(group_N):,} {words.many} were left out, so that none is there twice"
    return Looked({name: kept[name] for name in splits}, None, (*notes, Note("duplicates_dropped", detail)))


def _starts(splits: Mapping[str, Labelled]) -> dict[str, int]:
    """The number of each split's first example, counted over all of them."""
    lengths = [len(split) for split in splits.values()]
    return dict(zip(splits, np.cumsum([0, *lengths]).tolist(), strict=False))


def look_apart(
    splits: Mapping[str, S],
    apart: S,
    content: Callable[[S, int], bytes | memoryview],
    wanted: OnDuplicates,
    called: Callable[[int], str],
    words: Words,
) -> tuple[S | None, tuple[Note, ...]]:
    """Find examples without labels that are in a split, or there twice, and do with them what is wanted.

    What is learned of them is what the teacher answers; of an example that is measured on, that is too much.

    Args:
        splits: All three as they are used, nothing left to be held out.
        called: Of an example without labels, by its row: for messages.

    Returns:
        What is left of them, None where nothing is, and what was found.

    Raises DataError where the data is refused.
    """
    every = {**{name: splits[name] for name in ORDER}, "unlabelled": apart}
    group_N = _groups(every, content)
    if group_N is None:
        return apart, ()
    starts, notes = _starts(every), list[Note]()
    first = starts["unlabelled"]
    own_N = group_N[first:]
    for name in ("selection", "test"):
        held_M = group_N[starts[name] : starts[name] + len(splits[name])]
        there_N = np.isin(own_N, held_M)
        if there_N.any():
            detail = (
                f"{int(there_N.sum()):,} of {len(own_N):,} {words.many} without labels are also in {name} "
                f"({called(int(there_N.argmax()))} is one)"
            )
            many = np.isin(held_M, own_N).mean() > LEAKED
            _told(f"unlabelled_{words.many}_in_{name}", detail, many, wanted, notes)
    if wanted != "drop":
        return apart, tuple(notes)
    rows = np.flatnonzero(own_N == np.arange(first, first + len(own_N)))
    left_out = len(own_N) - len(rows)
    if left_out:
        detail = (
            f"{left_out:,} of {len(own_N):,} {words.many} without labels were left out, so that none is there twice"
        )
        notes.append(Note("duplicates_dropped", detail))
    return (apart.take(rows) if len(rows) else None), tuple(notes)
