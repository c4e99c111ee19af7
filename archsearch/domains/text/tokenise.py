"""From texts to ids of tokens, once for a table, a tokenizer and a length."""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.notes import Note
from archsearch.data.ragged import unpacked
from archsearch.domains.text.stored import open_dataset, read_record, save_dataset
from archsearch.domains.text.table import SPLITS, UNLABELLED, TableSplit, TextTable
from archsearch.domains.text.task import TextDataset, TextSplit, TextTask, id_type
from archsearch.domains.text.tokenizer import TextTokenizer
from archsearch.errors import DataError

# Texts given to the library at once: what it makes of them takes a hundred times their bytes.
CHUNK_TEXTS, CHUNK_BYTES = 1024, 2**22
# Of all tokens, the share that may be unknown before it is said.
UNKNOWN = 0.05
CUT = "texts_cut"
_FORMAT = 1
Listener = Callable[[int, int], None]


def tokenise(
    table: TextTable,
    tokenizer: TextTokenizer,
    max_length: int | None = None,
    cache: Path | None = None,
    listener: Listener | None = None,
) -> TextDataset:
    """The data set of a table as a tokenizer reads it; its `sha256` names table, tokenizer and length.

    Args:
        max_length: Most tokens of a text; the table's own where it is not given.
        cache: A folder to keep the ids in, made once and then opened as memory maps; without it they stay in memory.
        listener: Called with texts done and texts in all, now and then; it may raise.

    Raises DataError for a text of which the tokenizer makes no token.
    """
    max_length = max_length or table.max_length
    name = identity(table, tokenizer, max_length)
    if cache is None:
        dataset = _made(table, tokenizer, max_length, name, listener)
    else:
        dataset = _kept(table, tokenizer, max_length, cache / f"tokens-{name[:32]}", name, listener)
    return replace(dataset, notes=(*table.notes, *dataset.notes))


def identity(table: TextTable, tokenizer: TextTokenizer, max_length: int) -> str:
    """SHA-256, in hex, of what ids of tokens depend on."""
    return hashlib.sha256(f"{_FORMAT} {table.sha256} {tokenizer.sha256} {max_length}".encode()).hexdigest()


def _kept(
    table: TextTable, tokenizer: TextTokenizer, max_length: int, folder: Path, name: str, listener: Listener | None
) -> TextDataset:
    if folder.exists():
        try:
            if read_record(folder).sha256 == name:
                return open_dataset(folder)
        except DataError:
            # Damaged by a disk or a person, it only spares work: it is made again.
            shutil.rmtree(folder, ignore_errors=True)
    save_dataset(_made(table, tokenizer, max_length, name, listener), folder)
    return open_dataset(folder)


@dataclass
class _Found:
    """What came up while texts became tokens."""

    texts: int
    done: int = 0
    cut: int = 0
    tokens: int = 0
    unknown: int = 0
    notes: list[Note] = field(default_factory=list)


def _made(
    table: TextTable, tokenizer: TextTokenizer, max_length: int, name: str, listener: Listener | None
) -> TextDataset:
    task = TextTask(
        table.classes,
        max_length,
        tokenizer.vocab_size,
        tokenizer.pad_id,
        table.pair,
        table.class_names,
        table.kind,
        table.prevalence,
        table.truth,
    )
    named = {split: getattr(table, split) for split in (*SPLITS, UNLABELLED)}
    splits: dict[str, TableSplit] = {split: texts for split, texts in named.items() if texts is not None}
    encoder, found = tokenizer.encoder(max_length), _Found(sum(map(len, splits.values())))
    made = {split: _split(split, texts, encoder, tokenizer, found, listener) for split, texts in splits.items()}
    train, selection, test = (made[split] for split in SPLITS)
    return TextDataset(task, train, selection, test, name, _notes(found, max_length), made.get(UNLABELLED))


def _split(
    name: str, split: TableSplit, encoder: Any, tokenizer: TextTokenizer, found: _Found, listener: Listener | None
) -> TextSplit:
    ids, segments, starts = array("i"), bytearray(), array("q", [0])
    for rows in _chunks(split):
        texts = [split.texts(row) for row in rows]
        # A pair is a tuple to the library, and a single text none.
        for row, one in zip(rows, encoder.encode_batch_fast([t if len(t) > 1 else t[0] for t in texts]), strict=True):
            if not one.ids:
                shown = split.texts(row)[0][:60]
                raise DataError(f"the tokenizer makes no token of {shown!r} ({name}); remove it", field="text_column")
            ids.extend(one.ids)
            segments += bytes(one.type_ids)
            starts.append(len(ids))
            found.cut += bool(one.overflowing)
        found.done += len(rows)
        if listener is not None:
            listener(found.done, found.texts)
    flat_F = np.frombuffer(ids, dtype=np.int32)
    found.tokens += len(flat_F)
    found.unknown += 0 if tokenizer.unknown_id is None else int((flat_F == tokenizer.unknown_id).sum())
    columns = unpacked(flat_F.astype(id_type(tokenizer.vocab_size)), np.frombuffer(starts, dtype=np.int64))
    segment_F: npt.NDArray[np.uint8] = np.frombuffer(segments, dtype=np.uint8)
    return TextSplit(columns, segment_F if split.pair is not None else None, split.y_N, tokenizer.pad_id)


def _chunks(split: TableSplit) -> Iterator[range]:
    """Rows of a split, as many at a time as are few and short enough."""
    size_N = split.text.length_N + (0 if split.pair is None else split.pair.length_N)
    start = total = 0
    for row, size in enumerate(size_N.tolist()):
        if row > start and (row - start == CHUNK_TEXTS or total + size > CHUNK_BYTES):
            yield range(start, row)
            start, total = row, 0
        total += size
    if start < len(size_N):
        yield range(start, len(size_N))


def _notes(found: _Found, max_length: int) -> tuple[Note, ...]:
    notes = []
    if found.cut:
        detail = (
            f"{found.cut:,} of {found.texts:,} texts have more than {max_length} tokens and were cut after them; "
            "set max_length to read more, at the price of memory and time"
        )
        notes.append(Note(CUT, detail))
    if found.unknown > UNKNOWN * found.tokens:
        detail = (
            f"{found.unknown / found.tokens:.0%} of all tokens are unknown to the teacher's tokenizer; it may be one "
            "for another language, alphabet or kind of text"
        )
        notes.append(Note("unknown_tokens", detail))
    return tuple(notes)
