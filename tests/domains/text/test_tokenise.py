from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsearch.data import Note
from archsearch.data.ragged import joined
from archsearch.domains.text import tokenise as module
from archsearch.domains.text.load import load_text
from archsearch.domains.text.stored import open_table, save_table
from archsearch.domains.text.table import TableSplit, TextTable, make_table
from archsearch.domains.text.tokenise import identity, tokenise
from archsearch.domains.text.tokenizer import load_tokenizer
from archsearch.errors import Cancelled, DataError
from tests.data_files import Refused
from tests.domains.text.conftest import MakeTokenizer


def split(*texts: str | tuple[str, str]) -> TableSplit:
    pairs = [(text, "") if isinstance(text, str) else text for text in texts]
    first, second = (joined([list(one.encode()) for one in column], np.uint8) for column in zip(*pairs, strict=True))
    return TableSplit(first, None if isinstance(texts[0], str) else second, np.arange(len(texts)) % 2)


@pytest.fixture
def single() -> TextTable:
    return make_table(
        (split("a b c", "b", "d d d d d d d d"), split("c", "a d"), split("b b b", "a")), 2, ("no", "yes"), 8
    )


def test_texts_become_ids_between_the_tokenizers_own_marks(single: TextTable, make_tokenizer: MakeTokenizer) -> None:
    dataset = tokenise(single, load_tokenizer(make_tokenizer()))
    assert dataset.train.examples(slice(0, 2)).tolist() == [
        [[2, 4, 5, 6, 3], [0, 0, 0, 0, 0]],
        [[2, 5, 3, 0, 0], [0, 0, 0, -1, -1]],
    ]
    assert (dataset.train.segment_F, dataset.train.ids.flat_F.dtype) == (None, np.uint16)
    assert dataset.test.lengths_N.tolist() == [5, 3]
    assert dataset.selection.labels().tolist() == [0, 1]
    task = dataset.task
    assert (task.classes, task.class_names, task.max_length, task.vocab_size, task.pad_id) == (
        2,
        ("no", "yes"),
        8,
        50,
        0,
    )
    assert (task.pair, task.kind, task.prevalence) == (False, "classification", (2 / 3, 1 / 3))


def test_pairs_have_segments_and_share_the_length(make_tokenizer: MakeTokenizer) -> None:
    table = make_table((split(("a b", "c"), ("d", "a")), split(("a", "b")), split(("a a a a a", "b b b b b"))), 2, ())
    dataset = tokenise(table, load_tokenizer(make_tokenizer()), 8)
    assert dataset.train.examples(slice(0, 1)).tolist() == [[[2, 4, 5, 3, 6, 3], [0, 0, 0, 0, 1, 1]]]
    assert dataset.test.examples(slice(0, 1)).tolist() == [[[2, 4, 4, 3, 5, 5, 5, 3], [0, 0, 0, 0, 1, 1, 1, 1]]]
    assert dataset.task.pair


def test_what_is_cut_is_told_and_keeps_the_closing_mark(single: TextTable, make_tokenizer: MakeTokenizer) -> None:
    noted = replace(single, notes=(Note("before", "of the table"),))
    dataset = tokenise(noted, load_tokenizer(make_tokenizer()))
    assert dataset.train.examples(slice(2, 3))[0, 0].tolist() == [2, 7, 7, 7, 7, 7, 7, 3]
    assert [note.code for note in dataset.notes] == ["before", "texts_cut"]
    assert "1 of 7 texts have more than 8 tokens" in dataset.notes[1].detail
    assert tokenise(single, load_tokenizer(make_tokenizer()), 10).notes == ()


def test_unknown_tokens_are_told_where_they_are_many(single: TextTable, make_tokenizer: MakeTokenizer) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "d"]
    notes = tokenise(single, load_tokenizer(make_tokenizer(words)), 16).notes
    assert [note.code for note in notes] == ["unknown_tokens"]


def test_a_text_without_a_token_is_refused(make_tokenizer: MakeTokenizer, refused: Refused) -> None:
    # A zero-width space is a character, and to this tokenizer no word.
    table = make_table((split("a", "b"), split("a"), split("\N{ZERO WIDTH SPACE}")), 2, ())
    folder = make_tokenizer(["[PAD]", "[UNK]", "a", "b"], marks=False)
    tokenizer = load_tokenizer(folder)
    if tokenizer.encoder(8).encode("\N{ZERO WIDTH SPACE}").ids:
        table = replace(table, test=split("   "))
    with refused(DataError, "text_column", "the tokenizer makes no token of"):
        tokenise(table, tokenizer)


def test_ids_are_made_once_and_opened_as_maps(
    single: TextTable, make_tokenizer: MakeTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(make_tokenizer())
    first = tokenise(single, tokenizer, cache=tmp_path / "kept")
    made: list[str] = []
    monkeypatch.setattr(module, "_made", lambda *args: made.append("again"))
    again = tokenise(replace(single, notes=(Note("new", "said"),)), tokenizer, cache=tmp_path / "kept")
    assert made == []
    assert isinstance(again.train.ids.flat_F, np.memmap)
    assert not again.train.ids.flat_F.flags.writeable
    assert ([note.code for note in again.notes], again.task, again.sha256) == (
        ["new", "texts_cut"],
        first.task,
        first.sha256,
    )
    for name in ("train", "selection", "test"):
        one, other = getattr(first, name), getattr(again, name)
        assert one.examples(slice(None)).equal(other.examples(slice(None)))
        assert one.labels().equal(other.labels())
    assert again.train.take(np.array([1])).examples(slice(None)).tolist() == [[[2, 5, 3], [0, 0, 0]]]


def test_kept_ids_that_are_damaged_are_made_again(
    single: TextTable, make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(make_tokenizer())
    whole = tokenise(single, tokenizer, cache=tmp_path).train.examples(slice(None))
    (folder,) = tmp_path.glob("tokens-*")
    (folder / "train_ids.npy").write_bytes(b"broken")
    assert tokenise(single, tokenizer, cache=tmp_path).train.examples(slice(None)).equal(whole)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "tokens"))] == [folder.name]


def test_nothing_is_left_of_what_was_broken_off(
    single: TextTable, make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
    def stop(done: int, texts: int) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        tokenise(single, load_tokenizer(make_tokenizer()), cache=tmp_path / "kept", listener=stop)
    assert not (tmp_path / "kept").exists()


def test_the_data_set_is_named_by_table_tokenizer_and_length(single: TextTable, make_tokenizer: MakeTokenizer) -> None:
    tokenizer, other = load_tokenizer(make_tokenizer()), load_tokenizer(make_tokenizer(pad_token="a"))
    names = {
        identity(table, one, length)
        for table in (single, replace(single, sha256="x"))
        for one in (tokenizer, other)
        for length in (8, 9)
    }
    assert len(names) == 8
    assert tokenise(single, tokenizer).sha256 == identity(single, tokenizer, 8)


def test_texts_go_to_the_library_in_bounded_parts(
    single: TextTable, make_tokenizer: MakeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, heard = load_tokenizer(make_tokenizer()), list[tuple[int, int]]()
    whole = tokenise(single, tokenizer)
    monkeypatch.setattr(module, "CHUNK_BYTES", 7)
    parts = tokenise(single, tokenizer, listener=lambda done, texts: heard.append((done, texts)))
    assert heard == [(2, 7), (3, 7), (5, 7), (7, 7)]
    assert parts.train.examples(slice(None)).equal(whole.train.examples(slice(None)))


def test_texts_at_rest_are_the_same_to_a_tokenizer(
    single: TextTable, make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
    save_table(single, tmp_path / "table")
    tokenizer = load_tokenizer(make_tokenizer())
    one, other = tokenise(single, tokenizer), tokenise(open_table(tmp_path / "table"), tokenizer)
    assert (one.sha256, one.task, one.notes) == (other.sha256, other.task, other.notes)
    assert one.train.examples(slice(None)).equal(other.train.examples(slice(None)))


@pytest.mark.shared
def test_sst2_through_a_real_tokenizer(shared: Path, minilm: Path, tmp_path: Path) -> None:
    table = load_text(shared / "sst2_small.csv.gz")
    dataset = tokenise(table, load_tokenizer(minilm), cache=tmp_path)
    assert (dataset.task.vocab_size, dataset.task.pair, dataset.notes) == (30_522, False, ())
    x_N2T = dataset.train.examples(np.array([0]))
    assert (table.train.texts(0), x_N2T[0, 0].tolist()) == (
        ("all the way to the credits",), [101, 2035, 1996, 2126, 2000, 1996, 6495, 102],
    )  # fmt: skip
    assert int(dataset.train.lengths_N.max()) == 62
