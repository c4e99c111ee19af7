"""Texts that nobody has labelled, beside others or alone: where they lie, what is checked, and how they are kept."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.data import Limits
from archsearch.domains.text.load import load_text
from archsearch.domains.text.measured import load_measured
from archsearch.domains.text.spec import TextData
from archsearch.domains.text.stored import open_dataset, open_table, save_dataset, save_table
from archsearch.domains.text.table import TableSplit, TextTable
from archsearch.domains.text.tokenise import tokenise
from archsearch.domains.text.tokenizer import load_tokenizer
from archsearch.errors import DataError, InvalidRequest, TooLarge
from tests.data_files import MakeZip, Refused

LABELLED = "text,label\n" + "".join(f"text number {i},{('bad', 'good')[i % 2]}\n" for i in range(20))


def texts(split: TableSplit | None) -> list[str]:
    return [] if split is None else [split.texts(row)[0] for row in range(len(split))]


def zipped(make_zip: MakeZip, members: dict[str, str | bytes]) -> Path:
    return make_zip({name: data if isinstance(data, bytes) else data.encode() for name, data in members.items()})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("unlabelled.csv", 'text\n"one, two"\nthree\n'),
        ("Unlabeled.tsv", "id\ttext\n1\tone, two\n2\tthree\n"),
        ("unlabelled.jsonl", '{"text": "one, two"}\n{"text": "three"}\n'),
        ("unlabelled.txt", "one, two\r\n\n  \nthree"),
        ("unlabelled.txt.gz", gzip.compress(b"one, two\nthree\n")),
    ],
)
def test_a_file_beside_the_others_has_no_labels(make_zip: MakeZip, name: str, content: str | bytes) -> None:
    found = load_text(zipped(make_zip, {"train.csv": LABELLED, name: content}))
    assert texts(found.unlabelled) == ["one, two", "three"]
    assert found.unlabelled is not None
    assert found.unlabelled.y_N.tolist() == [-1, -1]
    assert (found.truth, found.class_names, found.task.truth) == ("labels", ("bad", "good"), "labels")
    plain = load_text(zipped(make_zip, {"train.csv": LABELLED}))
    assert plain.unlabelled is None
    assert plain.sha256 != found.sha256
    assert texts(plain.test) == texts(found.test)


def test_of_pairs_both_texts_are_read(make_zip: MakeZip) -> None:
    head = "sentence1,sentence2"
    train = f"{head},label\n" + "".join(f"a {i},b {i},{i % 2}\n" for i in range(20))
    found = load_text(zipped(make_zip, {"train.csv": train, "unlabelled.csv": f"{head}\none,two\n"}))
    assert found.unlabelled is not None
    assert found.unlabelled.texts(0) == ("one", "two")


@pytest.mark.parametrize(
    ("members", "field", "part"),
    [
        ({"unlabelled.csv": "text,label\none,good\n"}, "unlabelled.csv", "has a column 'label', and its texts have no"),
        ({"unlabelled.csv": "words\none\n"}, "text_column", "(in unlabelled.csv)"),
        ({"unlabelled.csv": "text\none\n", "unlabelled.txt": "two\n"}, "unlabelled.txt", "put them into one file"),
        ({"unlabelled.csv": "sentence1,sentence2\na,b\n"}, "unlabelled.csv", "make them equal"),
        ({"unlabelled.jsonl": '{"text": " "}\n'}, "unlabelled.jsonl", "is empty"),
        ({"more.txt": "a\n", "more.csv": "text\na\n"}, "more.csv", "train, validation, test and unlabelled"),
    ],
)
def test_what_is_unclear_is_refused(
    make_zip: MakeZip, refused: Refused, members: dict[str, str], field: str, part: str
) -> None:
    with refused(DataError, field, part):
        load_text(zipped(make_zip, {"train.csv": LABELLED, **members}))


def test_a_row_without_its_label_is_told_where_to_go(make_zip: MakeZip, refused: Refused) -> None:
    with refused(DataError, "label", "line 22 has no label; give it one or move it to unlabelled.csv"):
        load_text(zipped(make_zip, {"train.csv": LABELLED + "without,\n"}))


def test_those_held_out_too_are_told_of_or_left_out(make_zip: MakeZip) -> None:
    members: dict[str, Any] = {"train.csv": LABELLED, "test.csv": "text,label\nheld,good\nOut,bad\n"}
    path = zipped(make_zip, {**members, "unlabelled.txt": "new\nHELD\nnew\nother\n"})
    found = load_text(path, duplicates="warn")
    assert "unlabelled_texts_in_test" in [note.code for note in found.notes]
    assert texts(load_text(path, duplicates="drop").unlabelled) == ["new", "other"]
    with pytest.raises(DataError, match="without labels are also in test"):
        load_text(path)


def check_unlabelled(found: TextTable) -> None:
    """Nothing is known of its classes."""
    assert (found.truth, found.classes, found.class_names, found.prevalence) == ("teacher", 0, (), ())
    assert found.unlabelled is None
    assert {*found.train.y_N.tolist(), *found.test.y_N.tolist(), *found.selection.y_N.tolist()} == {-1}
    assert found.notes[0].code == "no_labels"
    assert (found.task.truth, found.task.classes) == ("teacher", 0)


@pytest.mark.parametrize("name", ["unlabelled.txt", "unlabelled.csv", "anything.csv"])
@pytest.mark.parametrize("packed", [False, True])
def test_alone_they_are_parted_as_others_are(make_zip: MakeZip, tmp_path: Path, name: str, packed: bool) -> None:
    lines = "".join(f"text number {i}\n" for i in range(40))
    content = lines if name.endswith("txt") else f"text\n{lines}"
    path = tmp_path / name
    path.write_text(content)
    found = load_text(zipped(make_zip, {name: content}) if packed else path)
    check_unlabelled(found)
    assert [len(split) for split in (found.train, found.selection, found.test)] == [26, 6, 8]
    assert sorted(texts(found.train) + texts(found.selection) + texts(found.test)) == sorted(lines.splitlines())


def test_splits_that_are_given_stay(make_zip: MakeZip, tmp_path: Path) -> None:
    files = {f"{name}.csv": f"text\n{name} 1\n{name} 2\n{name} 3\n" for name in ("train", "test", "dev")}
    check_unlabelled(found := load_text(zipped(make_zip, {**files})))
    assert texts(found.test) == ["test 1", "test 2", "test 3"]
    (tmp_path / "a.csv").write_text(
        "text,split\n" + "".join(f"text {i},{('train', 'test')[i % 2]}\n" for i in range(9))
    )
    told = load_text(tmp_path / "a.csv")
    check_unlabelled(told)
    assert len(told.test) == 4


@pytest.mark.parametrize(
    ("members", "field", "part"),
    [
        ({"train.csv": "text,id\na,1\nb,2\nc,3\n"}, "label_column", "no column is called as a label usually is"),
        ({"train.csv": "text\na\nb\n"}, "path", "2 texts and none has a label"),
        ({"train.csv": "text\na\nb\nc\n", "unlabelled.csv": "text\nd\n"}, "unlabelled.csv", "put all into one file"),
        ({"train.csv": "text\na\nb\nc\n", "test.csv": "text,label\nd,1\n"}, "test.csv", "make them equal"),
    ],
)
def test_what_may_have_labels_is_refused(
    make_zip: MakeZip, refused: Refused, members: dict[str, str], field: str, part: str
) -> None:
    with refused(DataError, field, part):
        load_text(zipped(make_zip, {**members}))


def test_a_service_takes_no_more_of_them_than_of_others(make_zip: MakeZip) -> None:
    path = zipped(make_zip, {"train.csv": LABELLED, "unlabelled.txt": "a\nb\n"})
    with pytest.raises(TooLarge, match="more than 21 rows"):
        load_text(path, Limits(max_examples=21))


@pytest.mark.parametrize(
    "members", [{"train.csv": LABELLED, "unlabelled.txt": "a b\n7\n"}, {"unlabelled.txt": "a\nb\nc\n"}]
)
def test_they_become_tokens_and_are_kept(make_zip: MakeZip, make_tokenizer, tmp_path: Path, members: Any) -> None:
    table = load_text(zipped(make_zip, members))
    save_table(table, tmp_path / "table")
    opened = open_table(tmp_path / "table")
    assert (opened.sha256, opened.truth, opened.task, opened.notes) == (
        table.sha256, table.truth, table.task, table.notes,
    )  # fmt: skip
    assert texts(opened.unlabelled) == texts(table.unlabelled)
    data = tokenise(opened, load_tokenizer(make_tokenizer()), 8)
    save_dataset(data, tmp_path / "tokens")
    again = open_dataset(tmp_path / "tokens")
    assert (again.task, again.sha256) == (data.task, data.sha256)
    assert (again.unlabelled is None) == (table.unlabelled is None)
    if data.unlabelled is not None and again.unlabelled is not None:
        assert np.array_equal(again.unlabelled.examples(slice(None)), data.unlabelled.examples(slice(None)))
        assert again.unlabelled.y_N.tolist() == [-1, -1]


def test_splits_are_joined_token_by_token(make_zip: MakeZip, make_tokenizer) -> None:
    head = "sentence1,sentence2"
    train = f"{head},label\n" + "".join(f"text {i},number {i},{i % 2}\n" for i in range(20))
    table = load_text(zipped(make_zip, {"train.csv": train, "unlabelled.csv": f"{head}\na,b c d\nb,a\n"}))
    data = tokenise(table, load_tokenizer(make_tokenizer()), 12)
    assert data.unlabelled is not None
    some = data.train.take(np.array([5, 2]))
    both = some.joined([data.unlabelled.take(slice(1, None)), data.unlabelled])
    assert both.y_N.tolist() == [*some.y_N.tolist(), -1, -1, -1]
    for row, (split, own) in enumerate([(some, 0), (some, 1), *[(data.unlabelled, i) for i in (1, 0, 1)]]):
        alone = split.examples(slice(own, own + 1))
        assert np.array_equal(both.examples(slice(row, row + 1)), alone)
    assert data.train.joined([]) is data.train


def test_whoever_measures_leaves_them_out_and_needs_labels(make_zip: MakeZip, make_tokenizer) -> None:
    tokenizer = load_tokenizer(make_tokenizer())
    path = zipped(make_zip, {"train.csv": LABELLED, "unlabelled.txt": "a b\n7\n"})
    table = load_text(path)
    data = tokenise(table, tokenizer, 8)
    found = load_measured(TextData(path=path, max_length=8), data.task, tokenizer, learned_from=data.sha256)
    assert found.dataset.sha256 == data.sha256
    assert np.array_equal(found.dataset.test.y_N, data.test.y_N)
    alone = zipped(make_zip, {"unlabelled.txt": "a\nb\nc\n"})
    with pytest.raises(InvalidRequest, match="no text has a label to measure answers by"):
        load_measured(TextData(path=alone), data.task, tokenizer)
