from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsearch.data import Note
from archsearch.data.ragged import joined
from archsearch.domains import is_whole
from archsearch.domains.text.stored import (
    open_dataset,
    open_stored,
    open_table,
    read_table_record,
    save_dataset,
    save_table,
)
from archsearch.domains.text.table import TableSplit, TextTable, fingerprint, make_table
from archsearch.domains.text.task import TextDataset, TextSplit, TextTask, text_split
from archsearch.errors import Conflict, DataError

SPLITS = ("train", "selection", "test")


def texts(*rows: tuple[str, str], many: bool = False) -> TableSplit:
    columns = [joined([list(text.encode()) for text in column], np.uint8) for column in zip(*rows, strict=True)]
    y_N = np.arange(len(rows)) % 2
    return TableSplit(columns[0], columns[1], np.stack([y_N, 1 - y_N], axis=1).astype(np.uint8) if many else y_N)


@pytest.fixture(params=["one label", "many labels"])
def table(request: pytest.FixtureRequest) -> TextTable:
    many = request.param == "many labels"
    splits = (
        texts(("hé", "x"), ("ab", "yy"), ("c", "z"), many=many),
        texts(("d", "e"), many=many),
        texts(("f", "gg"), many=many),
    )
    return make_table(splits, 2, ("no", "yés"), 64, (Note("found", "something"),))


@pytest.fixture
def dataset() -> TextDataset:
    train = text_split([[1, 2, 3], [4], [5, 6]], np.array([0, 1, 0]), segments=[[0, 1, 1], [0], [0, 1]])
    some = train.take(np.array([2, 0]))
    return TextDataset(TextTask(2, 8, 7, 0, True), train, some, train.take(slice(1, 3)), "f" * 64, (Note("a", "b"),))


def test_texts_open_as_they_were_saved(table: TextTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "new" / "set")
    opened = open_table(tmp_path / "new" / "set")
    assert replace(opened, train=table.train, selection=table.selection, test=table.test) == table
    splits = opened.train, opened.selection, opened.test
    assert [[split.texts(row) for row in range(len(split))] for split in splits] == [
        [("hé", "x"), ("ab", "yy"), ("c", "z")], [("d", "e")], [("f", "gg")],
    ]  # fmt: skip
    assert opened.sha256 == fingerprint(splits, opened.class_names)
    assert isinstance(opened.train.text.flat_F, np.memmap)


def test_rows_that_were_taken_are_saved_alone(table: TextTable, tmp_path: Path) -> None:
    secret = replace(table, train=table.train.take(np.array([2, 0])))
    save_table(secret, tmp_path / "set")
    assert (tmp_path / "set" / "train_text.npy").read_bytes().endswith("chétext".removesuffix("text").encode())
    opened = open_table(tmp_path / "set")
    assert [opened.train.texts(row) for row in range(2)] == [("c", "z"), ("hé", "x")]


def test_saving_the_same_again_changes_nothing_and_other_texts_are_a_conflict(table: TextTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "set")
    save_table(table, tmp_path / "set")
    with pytest.raises(Conflict, match="holds something else"):
        save_table(replace(table, sha256="0" * 64), tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


DAMAGES = {
    "no record": lambda folder: (folder / "task.json").unlink(),
    "half a record": lambda folder: (folder / "task.json").write_bytes((folder / "task.json").read_bytes()[:50]),
    "no texts": lambda folder: (folder / "train_text.npy").unlink(),
    "texts cut short": lambda folder: (folder / "train_text.npy").write_bytes(
        (folder / "train_text.npy").read_bytes()[:-1]
    ),
    "other texts": lambda folder: np.save(folder / "train_pair.npy", np.zeros(99, np.uint8)),
    "other starts": lambda folder: np.save(folder / "train_text_starts.npy", np.array([0, 5, 2, 6])),
    "fewer labels": lambda folder: np.save(folder / "train_y.npy", np.zeros(2, np.int64)),
    "objects": lambda folder: np.save(folder / "test_y.npy", np.array([{}]), allow_pickle=True),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_does_not_open(table: TextTable, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "set"
    save_table(table, folder)
    assert is_whole(folder)
    DAMAGES[damage](folder)
    with pytest.raises(DataError, match="upload or load it again"):
        open_table(folder)
    assert not is_whole(folder)


def test_a_record_says_of_which_domain_it_is(table: TextTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "set")
    record = json.loads((tmp_path / "set" / "task.json").read_text())
    assert (record["domain"], record["holds"], record["texts"]) == (
        "text_classification",
        "texts",
        {"train": 3, "selection": 1, "test": 1},
    )
    assert read_table_record(tmp_path / "set").class_names == ("no", "yés")


def test_tokens_open_as_they_were_saved(dataset: TextDataset, tmp_path: Path) -> None:
    save_dataset(dataset, tmp_path / "set")
    save_dataset(dataset, tmp_path / "set")
    opened = open_dataset(tmp_path / "set")
    assert (opened.task, opened.sha256, opened.notes) == (dataset.task, dataset.sha256, dataset.notes)
    for name in SPLITS:
        one: TextSplit = getattr(dataset, name)
        other: TextSplit = getattr(opened, name)
        assert one.examples(slice(None)).equal(other.examples(slice(None)))
        assert one.labels().equal(other.labels())
    with pytest.raises(ValueError, match="read-only"):
        opened.train.ids.flat_F[0] = 0


def test_texts_and_tokens_are_told_apart(table: TextTable, dataset: TextDataset, tmp_path: Path) -> None:
    save_table(table, tmp_path / "texts")
    save_dataset(dataset, tmp_path / "tokens")
    kinds = [type(open_stored(tmp_path / name)) for name in ("texts", "tokens")]
    assert kinds == [TextTable, TextDataset.__origin__]
    assert is_whole(tmp_path / "tokens")


def test_texts_are_no_tokens(table: TextTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "set")
    with pytest.raises(DataError, match="cannot read"):
        open_dataset(tmp_path / "set")
