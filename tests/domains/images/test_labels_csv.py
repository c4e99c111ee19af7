from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archsearch.data import Limits
from archsearch.domains.images import load_image_folder
from archsearch.domains.images.labels_csv import find_table, plan_table
from archsearch.domains.images.layout import Layout
from archsearch.errors import DataError, TooLarge

TABLE = """\
file,cat,dog
1.png,1,0
2.png,0,1
3.png,1,1
4.png,0,0
"""
ONE_EACH = TABLE.replace("3.png,1,1", "3.png,1,0").replace("4.png,0,0", "4.png,0,1")
NAMES = ("labels.csv", "1.png", "2.png", "3.png", "4.png")


def planned(table: str | bytes = TABLE, names: tuple[str, ...] = NAMES, limits: Limits | None = None) -> Layout:
    data = table.encode() if isinstance(table, str) else table
    return plan_table("labels.csv", data, names, limits or Limits())


def test_each_column_is_a_class_and_each_row_an_image() -> None:
    layout = planned()
    assert layout.class_names == ("cat", "dog")
    assert layout.files == {"train": ["1.png", "2.png", "3.png", "4.png"]}
    assert layout.labels["train"].tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert layout.labels["train"].dtype == np.uint8


def test_a_column_named_split_tells_the_splits_wherever_it_stands() -> None:
    table = (
        "name,cat,Split,dog\nd.png,1,Train,1\nc.png,0,train,0\nb.png,1,valid,0\na.png,1,training,1\ne.png,0,test,1\n"
    )
    layout = planned(table, ("a.png", "b.png", "c.png", "d.png", "e.png"))
    assert layout.files == {"train": ["a.png", "c.png", "d.png"], "selection": ["b.png"], "test": ["e.png"]}
    assert layout.labels["train"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert layout.labels["test"].tolist() == [[0, 1]]


def test_the_order_of_the_rows_does_not_matter() -> None:
    header, *rows = TABLE.splitlines(keepends=True)
    shuffled, plain = planned(header + "".join(reversed(rows))), planned()
    assert shuffled.files == plain.files
    assert np.array_equal(shuffled.labels["train"], plain.labels["train"])


def test_what_spreadsheets_write_is_read() -> None:
    table = b'\xef\xbb\xbf"file", cat,"a, b"\r\n./1.png, 1 ,0\r\n\r\n2.png,0,1\r\n3.png,1,1\r\n4.png,0,0'
    layout = planned(table)
    assert layout.class_names == ("cat", "a, b")
    assert np.array_equal(layout.labels["train"], planned().labels["train"])


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (["1.png", "labels.csv"], "labels.csv"),
        (["pets/", "pets/1.png", "pets/Labels.CSV", "readme.md"], "pets/Labels.CSV"),
        (["cat/1.png", "labels.csv", "dog/1.png"], "labels.csv"),
        (["pets/cat/1.png", "pets/cat/labels.csv", "pets/dog/1.png"], None),
        (["cat/labels.csv", "cat/1.png", "dog/1.png"], None),
        (["cat/1.png", "dog/labels.csv.png", "my_labels.csv"], None),
        ([], None),
    ],
)
def test_only_a_table_at_the_top_is_one(names: list[str], table: str | None) -> None:
    assert find_table(names) == table


def test_names_count_from_the_folder_of_the_table() -> None:
    names = ("pets/labels.csv", "pets/a/1.png", "pets/b/2.png", "pets/3.png", "pets/4.png", "pets/a/notes.txt")
    table = TABLE.replace("1.png", "a/1.png").replace("2.png", "b/2.png").encode()
    layout = plan_table("pets/labels.csv", table, names, Limits())
    assert layout.files["train"] == ["pets/3.png", "pets/4.png", "pets/a/1.png", "pets/b/2.png"]
    assert layout.labels["train"].tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("field", "part", "table"),
    [
        ("labels.csv", "not UTF-8", TABLE.encode("utf-16")),
        ("labels.csv", "line 2 is no CSV", 'file,cat,dog\n1.png,"1"1,0\n'),
        ("labels.csv", "the first row has to be file,cat,dog", ""),
        ("labels.csv", "1 classes in the columns file, cat", "file,cat\n1.png,1\n"),
        ("labels.csv", "0 classes in the columns file;cat;dog", TABLE.replace(",", ";")),
        ("labels.csv", "2 classes in the columns file, split, cat, split, dog", "file,split,cat,split,dog\n"),
        ("labels.csv", "'cat', is empty or given twice", TABLE.replace("dog", "cat")),
        ("labels.csv", "name 1, '', is empty", TABLE.replace("dog", "")),
        ("labels.csv", "line 3 has 2 cells, the first 3", TABLE.replace("2.png,0,1", "2.png,0")),
        ("labels.csv", "line 3: dog is 'yes'; write 1 where", TABLE.replace("2.png,0,1", "2.png,0,yes")),
        ("labels.csv", "line 5: cat is ''", TABLE.replace("4.png,0", "4.png,")),
        ("labels.csv", "line 2: cat is '10'", TABLE.replace("1.png,1,0", "1.png,10,")),
        ("labels.csv", "line 2: split is 'dev'; write train", "file,split,cat,dog\n1.png,dev,1,0\n"),
        ("labels.csv", "no row is of the split train", TABLE.replace("\n", ",test\n").replace("dog,test", "dog,split")),
        ("labels.csv", "there is no image 9.png; names count", TABLE.replace("2.png", "9.png")),
        ("labels.csv", "there is no image 2; did you mean 2.png?", TABLE.replace("2.png", "2")),
        ("labels.csv", "there is no image ../2.png", TABLE.replace("2.png", "../2.png")),
        ("labels.csv", "names 1.png twice", TABLE.replace("2.png", "1.png")),
        ("4.png", "has no row in labels.csv", TABLE.replace("4.png,0,0\n", "")),
        ("labels.csv", "exactly one label; put each image into a folder of its class", ONE_EACH),
        ("labels.csv", "label 1 ('dog') is on 1 training image(s), 2 or more", TABLE.replace("2.png,0,1", "2.png,0,0")),
        ("labels.csv", "label 0 ('cat') is on every training image", TABLE.replace(",0,", ",1,")),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused(refused, field: str, part: str, table: str | bytes) -> None:
    with refused(DataError, field, part):
        planned(table)


def test_a_file_that_is_no_image_is_refused(refused) -> None:
    with refused(DataError, "5.heic", "convert or remove"):
        planned(names=(*NAMES, "5.heic"))
    with refused(DataError, "5.heic", "convert or remove"):
        planned(TABLE + "5.heic,1,1\n", names=(*NAMES, "5.heic"))


def test_limits_hold(refused) -> None:
    with refused(TooLarge, "labels.csv", "2 classes, at most 1"):
        planned(limits=Limits(max_classes=1))
    with refused(TooLarge, "labels.csv", "more than 3 images"):
        planned(limits=Limits(max_examples=3))


def test_a_table_of_too_many_bytes_is_not_read(make_zip, refused) -> None:
    with refused(TooLarge, "labels.csv", "one file may have 10"):
        load_image_folder(make_zip({"labels.csv": TABLE.encode()}), limits=Limits(max_file_bytes=10))


@pytest.fixture
def members(picture: Callable[..., bytes]) -> Mapping[str, bytes]:
    """Twelve images: each third one with a cat, each second one with a dog."""
    rows = [f"{i}.png,{int(i % 3 == 0)},{int(i % 2 == 0)}\n" for i in range(12)]
    return {"labels.csv": ("file,cat,dog\n" + "".join(rows)).encode()} | {f"{i}.png": picture(i) for i in range(12)}


def test_a_folder_with_a_table_and_its_zip_are_the_same_data(
    members: Mapping[str, bytes], make_zip, tmp_path: Path
) -> None:
    for name, data in members.items():
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    packed, folder = load_image_folder(make_zip(members)), load_image_folder(tmp_path / "folder")
    wrapped = load_image_folder(make_zip({f"pets/{name}": data for name, data in members.items()}))
    assert folder.sha256 == packed.sha256 == wrapped.sha256
    assert (folder.task.kind, folder.task.class_names, folder.task.classes) == ("multilabel", ("cat", "dog"), 2)
    assert sum(len(split) for split in (folder.train, folder.selection, folder.test)) == 12


def test_every_image_keeps_its_own_labels(members: Mapping[str, bytes], make_zip) -> None:
    dataset = load_image_folder(make_zip(members))
    # An image's pixels are noise made from its number, so they tell which row of the table it has.
    images = {i: np.array(Image.open(io.BytesIO(members[f"{i}.png"]))).tobytes() for i in range(12)}
    number = {pixels: i for i, pixels in images.items()}
    for split in (dataset.train, dataset.selection, dataset.test):
        for x_HWC, y_K in zip(split.x_NHWC, split.y_N, strict=True):
            i = number[x_HWC.tobytes()]
            assert y_K.tolist() == [int(i % 3 == 0), int(i % 2 == 0)]
