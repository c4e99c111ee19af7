from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.data import Limits, batches
from archsearch.data.archive import listening
from archsearch.domains.text import read as reading
from archsearch.domains.text.columns import Wanted
from archsearch.domains.text.load import load_spec, load_text, read_splits
from archsearch.domains.text.spec import TextData
from archsearch.domains.text.table import TableSplit, TextTable
from archsearch.errors import ArchsearchError, DataError, TooLarge, TooMuchMemory
from tests.data_files import MakeZip, Refused

Load = Callable[..., TextTable]
Line = Callable[[int], str]


def table(
    rows: int = 40, line: Line = lambda i: f"text number {i},{('bad', 'good')[i % 2]}", head: str = "text,label"
) -> str:
    return "\n".join([head, *map(line, range(rows))]) + "\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(content, "name.csv", **options)`: what load_text makes of a file of these bytes."""

    def write_and_load(content: str | bytes, name: str = "texts.csv", **options: Any) -> TextTable:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_text(path, **options)

    return write_and_load


def texts(split: TableSplit) -> list[tuple[str, ...]]:
    return [split.texts(row) for row in range(len(split))]


def all_texts(found: TextTable) -> list[tuple[str, ...]]:
    return [text for split in (found.train, found.selection, found.test) for text in texts(split)]


# What is read


def test_words_are_numbered_in_alphabetical_order_and_splits_held_out(load: Load) -> None:
    found = load(table())
    assert (found.class_names, found.classes, found.kind, found.pair) == (("bad", "good"), 2, "classification", False)
    assert [len(split) for split in (found.train, found.selection, found.test)] == [26, 6, 8]
    assert sorted(all_texts(found)) == sorted((f"text number {i}",) for i in range(40))
    for split in (found.train, found.selection, found.test):
        assert [int(text[0].split()[-1]) % 2 for text in texts(split)] == split.y_N.tolist()


FORMS: dict[str, tuple[str, Callable[[list[dict[str, Any]]], bytes]]] = {
    "csv": ("a.csv", lambda rows: table(len(rows), lambda i: f'"{rows[i]["text"]}",{rows[i]["label"]}').encode()),
    "semicolons": (
        "a.csv",
        lambda rows: table(len(rows), lambda i: f"{rows[i]['text']};{rows[i]['label']}", "text;label").encode(),
    ),
    "bom and windows lines": (
        "a.csv",
        lambda rows: (
            b"\xef\xbb\xbf"
            + table(len(rows), lambda i: f"{rows[i]['text']},{rows[i]['label']}").replace("\n", "\r\n").encode()
        ),
    ),
    "tsv": (
        "a.tsv",
        lambda rows: table(len(rows), lambda i: f"{rows[i]['text']}\t{rows[i]['label']}", "text\tlabel").encode(),
    ),
    "jsonl": ("a.jsonl", lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    "packed": ("a.jsonl.gz", lambda rows: gzip.compress("\n".join(map(json.dumps, rows)).encode())),
    "no name, packed": ("upload", lambda rows: gzip.compress("\n\n".join(map(json.dumps, rows)).encode())),
    "no name, csv": (
        "upload",
        lambda rows: table(len(rows), lambda i: f"{rows[i]['text']},{rows[i]['label']}").encode(),
    ),
    "no name, tsv": (
        "upload",
        lambda rows: table(len(rows), lambda i: f"{rows[i]['text']}\t{rows[i]['label']}", "text\tlabel").encode(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_texts_are_the_same_data_in_every_form(load: Load, form: str) -> None:
    rows = [{"text": f"hôtel no. {i} 👍", "label": ("bad", "good")[i % 2]} for i in range(20)]
    name, written = FORMS[form]
    found = load(written(rows), name)
    assert found.sha256 == load("\n".join(map(json.dumps, rows)), "b.jsonl").sha256
    assert ("hôtel no. 3 👍",) in all_texts(found)


def test_a_quoted_text_may_hold_commas_quotes_and_lines(load: Load) -> None:
    long = "x" * 200_000  # beyond what Python's csv takes unless it is told
    found = load(table() + f'"one, ""two""\nthree",good\n"{long}",bad\n')
    assert ('one, "two"\nthree',) in all_texts(found)
    assert (long,) in all_texts(found)


def test_quotes_in_a_tsv_are_what_they_look_like(load: Load) -> None:
    found = load(table(line=lambda i: f'"so" he {i}\t"{i % 2}', head="text\tlabel"), "a.tsv")
    assert (('"so" he 7',) in all_texts(found), found.class_names) == (True, ('"0', '"1'))


def test_a_tsv_cell_quoted_as_a_csv_is_unquoted(load: Load) -> None:
    found = load(table(line=lambda i: f'"no ""{i}"""\t{i % 2}', head="text\tlabel"), "a.tsv")
    assert ('no "7"',) in all_texts(found)


@pytest.mark.parametrize("head", ["sentence1,sentence2,label", "premise,hypothesis,label", "question1,question2,label"])
def test_pairs_are_found_by_their_names(load: Load, head: str) -> None:
    found = load(table(line=lambda i: f"a{i},b{i},{i % 2}", head=head))
    assert found.pair
    assert ("a3", "b3") in all_texts(found)


def test_one_text_of_what_could_be_a_pair_is_taken_alone_where_it_is_named(load: Load) -> None:
    found = load(table(line=lambda i: f"a{i},b{i},{i % 2}", head="sentence1,sentence2,label"), text_column="sentence2")
    assert not found.pair
    assert ("b3",) in all_texts(found)


def test_columns_are_named_whatever_their_capitals(load: Load) -> None:
    found = load(
        table(line=lambda i: f"{i},a{i},{i % 2},b{i}", head="id,Body,Stars,Reply"),
        text_column="body",
        pair_column="reply",
        label_column="STARS",
    )
    assert ("a3", "b3") in all_texts(found)


@pytest.mark.parametrize(
    "words", [("train", "validation", "test"), ("TRAIN", "dev", "testing"), ("training", "val", "Test")]
)
def test_a_split_column_tells_splits(load: Load, words: tuple[str, str, str]) -> None:
    found = load(table(30, lambda i: f"{words[i % 3]},{i},{i // 3 % 2}", "split,text,label"))
    assert [texts(split)[:2] for split in (found.train, found.selection, found.test)] == [
        [("0",), ("3",)],
        [("1",), ("4",)],
        [("2",), ("5",)],
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_or_zip_has_a_file_a_split(tmp_path: Path, make_zip: MakeZip, packed: bool) -> None:
    parts = {
        "data/train.csv": table(20).encode(),
        "data/dev.jsonl": b'{"text": "d1", "label": "good"}\n{"text": "d2", "label": "bad"}',
        "data/test.tsv": b"label\ttext\tid\nbad\tt1\t7\n",
        "data/README.md": b"# texts",
        "__MACOSX/data/._train.csv": b"junk",
    }
    if packed:
        path = make_zip(parts)
    else:
        path = tmp_path / "folder"
        for name, content in parts.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    found = load_text(path)
    assert (len(found.train), texts(found.selection), texts(found.test)) == (20, [("d1",), ("d2",)], [("t1",)])
    assert (found.selection.y_N.tolist(), found.test.y_N.tolist()) == ([1, 0], [0])


def test_a_file_alone_in_a_folder_tells_its_splits_itself(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        table(30, lambda i: f"{('train', 'test')[i % 2]},{i},{i // 2 % 2}", "split,text,label")
    )
    assert len(load_text(tmp_path).test) == 15


# Labels


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("0", "1", "2"), ()),
        (("0", "1.0", "2"), ()),
        (("1", "2", "10"), ("1", "2", "10")),
        (("-1", "0", "1"), ("-1", "0", "1")),
        (("b", "a", "10"), ("10", "a", "b")),
        (("01", "02", "03"), ("01", "02", "03")),
    ],
)
def test_numbers_from_0_are_classes_and_others_are_names(
    load: Load, labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    found = load(table(line=lambda i: f"t{i},{labels[i % 3]}"))
    assert (found.class_names, found.classes) == (names, 3)
    order = names or ("0", "1", "2")
    for row, (text,) in enumerate(texts(found.train)):
        assert order[found.train.y_N[row]] == labels[int(text[1:]) % 3].removesuffix(".0")


def test_json_has_numbers_and_truth_values_as_labels(load: Load) -> None:
    numbers = load("\n".join(json.dumps({"text": f"t{i}", "label": i % 2}) for i in range(20)), "a.jsonl")
    truths = load("\n".join(json.dumps({"text": f"t{i}", "label": i % 2 == 1}) for i in range(20)), "a.jsonl")
    assert (numbers.class_names, truths.class_names) == ((), ("false", "true"))
    assert numbers.train.y_N.tolist() == truths.train.y_N.tolist()


MANY = [("joy",), ("anger", "joy"), (), ("anger",), ("joy", "love")]


@pytest.mark.parametrize("form", ["|", ";", "list", "columns"])
def test_a_text_may_have_several_labels(load: Load, form: str) -> None:
    names, options, name = ("anger", "joy", "love"), {}, "a.csv"
    if form == "list":
        name, content = "a.jsonl", "\n".join(json.dumps({"text": f"t{i}", "label": MANY[i % 5]}) for i in range(50))
    elif form == "columns":
        content = table(
            50, lambda i: f"t{i}," + ",".join(str(int(one in MANY[i % 5])) for one in names), "text,anger,joy,love"
        )
        options = {"label_column": names}
    else:
        content = table(50, lambda i: f"t{i},{form.join(MANY[i % 5])}")
    found = load(content, name, **options)
    assert (found.kind, found.class_names, found.classes) == ("multilabel", names, 3)
    for split in (found.train, found.selection, found.test):
        for row, (text,) in enumerate(texts(split)):
            assert split.y_N[row].tolist() == [int(one in MANY[int(text[1:]) % 5]) for one in names]
    assert [note.code for note in found.notes] == (["labels_parted"] if form in "|;" else [])


# What is refused: the column or file at fault, part of the detail, the file

GOOD = table()
REFUSED: dict[str, tuple[str, str, str | bytes]] = {
    "old encoding": (
        "a.csv",
        "line 42 is not UTF-8: byte 4 of it is 0xe9, which would be 'é' in Windows-1252; save",
        GOOD.encode() + b"caf\xe9,good\n",
    ),
    "undefined byte": ("a.csv", "byte 1 of it is 0x81; save", GOOD.encode() + b"\x81,good\n"),
    "utf-16": ("a.csv", "is UTF-16; save it as UTF-8", GOOD.encode("utf-16")),
    "nul": ("a.csv", "line 42 holds a NUL byte", GOOD + "a\0b,good\n"),
    "too few cells": ("a.csv", "line 42 has 1 cells and the first 2 (text, label)", GOOD + "alone\n"),
    "too many cells": ("a.csv", "line 42 has 3 cells and the first 2", GOOD + "one, two,good\n"),
    "after a text of two lines": ("a.csv", "line 44 has 1 cells", GOOD + '"a\nb",good\nalone\n'),
    "open quote": ("a.csv", "the row that begins in line 42 is no csv", GOOD + '"never closed,good\nmore,bad\n'),
    "text after a quote": ("a.csv", "the row that begins in line 42 is no csv", GOOD + '"a"b,good\n'),
    "two columns of one name": (
        "a.csv",
        "has two columns 'text'; rename one",
        GOOD.replace("text,label", "text,text", 1),
    ),
    "nothing": ("a.csv", "is empty; the first row has to name the columns", ""),
    "only a header": ("path", "there is no row and no training text", "text,label\n"),
    "empty text": ("a.csv", "line 42: text is empty; fill it in or remove the row", GOOD + " ,good\n"),
    "no label": ("label", "line 42 has no label; give it one", GOOD + "text,\n"),
    "one class": ("label", "every label is 'good'", table(line=lambda i: f"t{i},good")),
    "one number": ("label", "all labels are 0", table(line=lambda i: f"t{i},0")),
    "rare class": (
        "label",
        "class 1 ('rare') has 1 training text(s), 2 or more are needed",
        table(line=lambda i: f"t{i},{'rare' if i == 7 else 'many'}"),
    ),
    "gap": (
        "label",
        "class 1 of 0 to 2 has no training text; number the classes 0 to 1",
        table(line=lambda i: f"t{i},{i % 2 * 2}"),
    ),
    "scores": ("label", "labels as 0.5 are measures", table(line=lambda i: f"t{i},{i % 4 / 2}")),
    "huge number": ("label", "labels; number the classes", table(line=lambda i: f"t{i},{i % 2 * 10**17}")),
    "no column for the text": (
        "text_column",
        "no column is called as a text usually is, only 'words', 'label'",
        GOOD.replace("text,", "words,", 1),
    ),
    "two columns for the text": (
        "text_column",
        "'sentence' and 'review' could both be the text",
        "review,sentence,label\na,b,c\n",
    ),
    "no column for the label": (
        "label_column",
        "no column is called as a label usually is",
        GOOD.replace("label", "mark", 1),
    ),
    "unknown split": ("a.csv", "line 3: split is 'tset'; write train", "split,text,label\ntrain,a,b\ntset,a,b\n"),
    "no training text": ("split", "there is only test and no training text", "split,text,label\ntest,a,b\n"),
    "strange label": (
        "label",
        "line 4: label 'z' is on no training text",
        "split,text,label\ntrain,a,x\ntrain,b,y\ntest,c,z\n",
    ),
    "one label each": (
        "label",
        "every text has exactly one label; write the label itself",
        "\n".join(json.dumps({"text": f"t{i}", "label": ["ab"[i % 2]]}) for i in range(9)),
    ),
    "list and none": (
        "label",
        "line 2: is 'b', elsewhere a list",
        '{"text": "t", "label": ["a"]}\n{"text": "u", "label": "b"}',
    ),
    "a text for a label": (
        "a.csv",
        "line 2: label has 600 characters, which is a text",
        f"text,label\na,{'x' * 600}\n",
    ),
    "old Macs' lines": ("a.csv", "lines end as on old Macs", GOOD.replace("\n", "\r")),
    "json list": ("a.csv", "line 1 is no JSON", '{"text": "t", "label": "a"},\n'),
    "json text": ("a.csv", "line 2 is no object", '{"text": "t", "label": "a"}\n"u"\n'),
    "json number": ("a.csv", "line 1: text is 5, which is no text", '{"text": 5, "label": "a"}\n'),
    "json key": ("a.csv", "line 2 has no 'label'; add it", '{"text": "t", "label": "a"}\n{"text": "u"}\n'),
    "json nested label": (
        "a.csv",
        "line 1: label is {'a': 1}, which is no label",
        '{"text": "t", "label": {"a": 1}}\n',
    ),
    "json surrogate": ("a.csv", "line 1: text holds half of a surrogate pair", '{"text": "\\ud800", "label": "a"}\n'),
    "json nul": ("a.csv", "line 1: text holds a NUL character", '{"text": "a\\u0000", "label": "a"}\n'),
    "json depth": ("a.csv", "line 2 is no JSON", '{"text": "t", "label": "a"}\n' + "[" * 100_000 + "\n"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_from_is_refused(load: Load, refused: Refused, case: str) -> None:
    field, part, content = REFUSED[case]
    kind = TooLarge if "at most" in part else DataError
    # The name says nothing of the format where the content is JSON.
    field, name = (field.replace("a.csv", "upload"), "upload") if str(content).startswith("{") else (field, "a.csv")
    with refused(kind, field, part):
        load(content, name)


OPTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unknown column": (
        "text_column",
        "there is no column 'texts', only 'text', 'label', 'more'; did you mean 'text'?",
        {"text_column": "texts"},
    ),
    "one for two": ("label_column", "column 'text' is named for two things", {"label_column": "text"}),
    "no 0 or 1": (
        "a.csv",
        "line 2: label is 'bad'; write 1 where the text has the label",
        {"label_column": ("label", "more")},
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_fit_are_refused(load: Load, refused: Refused, case: str) -> None:
    field, part, options = OPTIONS[case]
    with refused(DataError, field, part):
        load(table(line=lambda i: f"t{i},{('bad', 'good')[i % 2]},1", head="text,label,more"), "a.csv", **options)


@pytest.mark.parametrize(
    ("field", "part", "members"),
    [
        ("more.csv", "is none of train, validation, test and unlabelled", {"train.csv": GOOD, "more.csv": GOOD}),
        ("train.tsv", "is of the train split as train.csv is", {"train.csv": GOOD, "train.tsv": GOOD}),
        ("b/test.csv", "lies in another folder than a/train.csv", {"a/train.csv": GOOD, "b/test.csv": GOOD}),
        (
            "path",
            "holds no csv, tsv or jsonl file, only .parquet, and parquet and arrow are not read",
            {"train.parquet": ""},
        ),
        ("path", "there is only test and no training text", {"test.csv": GOOD}),
        ("label_column", "(in test.csv)", {"train.csv": GOOD, "test.csv": "text\na\n"}),
        ("test.csv", "make them equal", {"train.csv": GOOD, "test.csv": "sentence1,sentence2,label\na,b,good\n"}),
        ("label", "line 2 of test.csv: label 'so' is on no", {"train.csv": GOOD, "test.csv": "text,label\na,so\n"}),
        ("test.csv", "line 2: text is empty", {"train.csv": GOOD, "test.csv": 'text,label\n"",good\n'}),
        ("test.csv", "ends or is damaged after line 0", {"train.csv": GOOD, "test.csv": b"\x1f\x8b\x08broken"}),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    make_zip: MakeZip, refused: Refused, field: str, part: str, members: dict[str, str | bytes]
) -> None:
    path = make_zip({name: one.encode() if isinstance(one, str) else one for name, one in members.items()})
    with refused(DataError, field, part):
        load_text(path)


def test_files_tell_splits_and_no_column_does(make_zip: MakeZip, refused: Refused) -> None:
    path = make_zip({"train.csv": GOOD.encode(), "test.csv": b"text,label\nso,good\n"})
    with refused(DataError, "split_column", "files tell the splits"):
        load_text(path, split_column="label")


@pytest.mark.parametrize(
    ("limits", "field", "part"),
    [
        (Limits(max_examples=39), "texts.csv", "has more than 39 rows"),
        (Limits(max_bytes=500), "texts.csv", "has more than 500 bytes"),
        (Limits(max_row_bytes=18), "texts.csv", "line 3 or later has more than 18 bytes"),
        (Limits(max_classes=1), "label", "has 2 labels, at most 1"),
    ],
)
def test_bounds_are_kept_while_reading(load: Load, refused: Refused, limits: Limits, field: str, part: str) -> None:
    with refused(TooLarge, field, part):
        load(GOOD, limits=limits)


def test_a_quote_left_open_does_not_swallow_the_file(load: Load, refused: Refused) -> None:
    with refused(TooLarge, "texts.csv", "close the quote that was left open"):
        load(GOOD + '"open,good\n' + "x" * 99 + "\n" * 3000, limits=Limits(max_row_bytes=1000))


def test_many_labels_of_many_texts_are_counted_before_they_are_laid_out(load: Load, refused: Refused) -> None:
    rows = [json.dumps({"text": f"t{i}", "label": [f"one {i}", f"other {i}"]}) for i in range(200)]
    with refused(TooLarge, "label", "400 labels take 80,000 bytes, at most 50,000"):
        load("\n".join(rows), "a.jsonl", limits=Limits(max_bytes=50_000))


@pytest.mark.parametrize(
    ("field", "what", "content"),
    [
        ("a.jsonl", "sorting 8 texts", [{"text": "long " * 100, "label": i % 2} for i in range(40)]),
        ("label", "400 labels", [{"text": f"t{i}", "label": [f"one {i}", f"other {i}"]} for i in range(200)]),
    ],
)
def test_what_memory_cannot_hold_is_refused_before_it_is_tried(
    load: Load, monkeypatch: pytest.MonkeyPatch, field: str, what: str, content: list[Any]
) -> None:
    monkeypatch.setattr(reading, "_ROWS", 8)
    monkeypatch.setattr(batches, "available_bytes", lambda: 4_000 if field == "a.jsonl" else 79_999)
    with pytest.raises(TooMuchMemory, match=what) as caught:
        load("\n".join(map(json.dumps, content)), "a.jsonl")
    assert caught.value.field == field


def test_many_columns_are_no_matter(load: Load) -> None:
    more = ",".join(map(str, range(50_000)))
    found = load(table(8, lambda i: f"t{i},{i % 2},{more}", f"text,label,{more}"))
    assert sorted(all_texts(found)) == [(f"t{i}",) for i in range(8)]


def test_a_file_may_begin_as_zips_do(load: Load) -> None:
    assert ("t3",) in all_texts(load(table(line=lambda i: f"{i},t{i},{i % 2}", head="PK,text,label")))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "upload", "a.csv.gz"])
def test_noise_is_refused_and_never_breaks(load: Load, name: str) -> None:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    words = rb"text label , { } : [ 1 | PK".split()
    pieces = [*words, b"\t", b"\n", b"\r", b" ", b"\0", b"\xff", b"PK\x03\x04", b"\x1f\x8b", b'"']
    for _ in range(300):
        noise = b"".join(pieces[i] for i in rng.integers(0, len(pieces), rng.integers(0, 60)))
        head = rng.choice([b"", b"text,label\n", b'{"text": "a", "label": 1}\n'])
        with suppress(ArchsearchError):
            load(head + noise, name)


def test_a_bomb_of_gzip_is_not_unpacked(load: Load, refused: Refused) -> None:
    bomb = gzip.compress(GOOD.encode() + b"text,good\n" * 1_000_000)
    with refused(TooLarge, "texts.csv", "has more than 100,000 bytes"):
        load(bomb, limits=Limits(max_bytes=100_000))


def test_a_file_cut_short_says_so(load: Load, refused: Refused) -> None:
    packed = gzip.compress(table(3000).encode())
    with refused(DataError, "a.csv.gz", "ends or is damaged after line"):
        load(packed[:-2000], "a.csv.gz")


def test_no_file_says_so(tmp_path: Path, refused: Refused) -> None:
    with refused(DataError, "path", "no file at"):
        load_text(tmp_path / "none.csv")


# The same text twice


def twice(leaked: int, label: str = "same") -> str:
    """40 training and 20 test texts, some of which are training texts but for blanks and capitals."""
    rows = [f"train,Text  number {i},{i % 2}" for i in range(40)]
    for i in range(20):
        flipped = (i + (label == "other")) % 2
        rows.append(f"test,text number {i} ,{flipped}" if i < leaked else f"test,new {i},{i % 2}")
    return "\n".join(["split,text,label", *rows])


def test_many_texts_in_two_splits_are_refused(load: Load, refused: Refused) -> None:
    with refused(DataError, "duplicates", "3 of 20 test texts are also in train (line 42 is line 2)"):
        load(twice(3))


def test_few_are_told_and_any_number_where_it_is_wanted(load: Load) -> None:
    assert [note.code for note in load(twice(2)).notes] == ["test_texts_in_train"]
    found = load(twice(9), duplicates="warn")
    assert ([note.code for note in found.notes], len(found.train) + len(found.selection)) == (
        ["test_texts_in_train"],
        40,
    )


def test_dropped_texts_stay_in_test(load: Load) -> None:
    found = load(twice(9), duplicates="drop")
    assert (len(found.test), len(found.train) + len(found.selection)) == (20, 31)
    assert [note.code for note in found.notes] == ["test_texts_in_train", "duplicates_dropped"]


def test_texts_with_two_labels_are_refused(load: Load, refused: Refused) -> None:
    with refused(
        DataError,
        "duplicates",
        "18 of 60 texts have other labels elsewhere, though they differ in blanks and capitals at most",
    ):
        load(twice(9, "other"))


def test_pairs_are_the_same_where_both_texts_are(load: Load) -> None:
    content = table(line=lambda i: f"a{i // 2},b{i % 2},{i // 2 % 2}", head="sentence1,sentence2,label")
    assert load(content).notes == ()


def test_copies_stay_together_where_splits_are_held_out(load: Load) -> None:
    found = load(table(40, lambda i: f"t{i % 30},{i % 30 % 2}"))
    assert [note.code for note in found.notes] == ["repeated_texts"]
    apart = [{text for (text,) in texts(split)} for split in (found.train, found.selection, found.test)]
    assert sum(map(len, apart)) == len(set.union(*apart))


# The rest


def test_the_data_is_named_by_its_content_alone(load: Load) -> None:
    one = load(GOOD)
    assert one.sha256 == load(GOOD + "\n\n", "other.csv", max_length=64).sha256
    assert (
        len({one.sha256, load(GOOD.replace("bad", "worse")).sha256, load(GOOD.replace("number 9", "n 9")).sha256}) == 3
    )


def test_what_is_measured_needs_no_training_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("split,text,label\ntest,a,b\ntest,c,b\n")
    splits, names, notes = read_splits(tmp_path / "a.csv", Wanted(), Limits())
    assert (list(splits), names, notes, texts(splits["test"])) == (["test"], ("b",), (), [("a",), ("c",)])


def test_whoever_listens_hears_how_far_it_is(load: Load) -> None:
    heard: list[float] = []
    with listening(heard.append):
        load(GOOD)
    assert heard[-1] == 1.0


@pytest.mark.shared
def test_sst2_is_read_as_it_is(shared: Path) -> None:
    found = load_spec(TextData(path=shared / "sst2_small.csv.gz"))
    assert (len(found.train), len(found.selection), len(found.test)) == (6800, 1200, 872)
    assert (found.classes, found.class_names, found.prevalence, found.notes) == (2, (), (0.5, 0.5), ())
    assert ("all the way to the credits",) in texts(found.train) + texts(found.selection)
