from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch import checks
from archsearch.checks import Known
from archsearch.data import Dataset, Limits
from archsearch.domains.images import load_npz
from archsearch.errors import DataError, TooLarge
from archsearch.request import parse_request

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "cifar100_mini.npz"
X_NHWC = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
Y_N = np.arange(30) % 3
# Three labels: on every second image, on every third and on the first five; images with none, some and all.
Y_NK = np.stack([np.arange(30) % 2 == 0, np.arange(30) % 3 == 0, np.arange(30) < 5], axis=1)
Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(x_train=..., limits=...)`: what load_npz makes of a good file with these arrays replaced or added.

    Many tests take the same images for several splits.
    """

    def write_and_load(limits: Limits | None = None, duplicates: Any = "warn", **arrays: Any) -> Dataset:
        both = {"x_train": X_NHWC, "y_train": Y_N} | arrays
        np.savez_compressed(tmp_path / "a.npz", **{key: array for key, array in both.items() if array is not None})
        return load_npz(tmp_path / "a.npz", limits, duplicates=duplicates)

    return write_and_load


def test_missing_splits_are_held_out_and_no_image_is_lost(load: Load) -> None:
    dataset = load()
    assert [len(split) for split in (dataset.train, dataset.selection, dataset.test)] == [21, 3, 6]
    rows = np.concatenate([split.x_NHWC for split in (dataset.train, dataset.selection, dataset.test)])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, X_NHWC))


def test_given_splits_are_used_as_they_are(load: Load) -> None:
    dataset = load(x_test=X_NHWC[:4], y_test=Y_N[:4], x_selection=X_NHWC[4:9], y_selection=Y_N[4:9])
    assert np.array_equal(dataset.train.x_NHWC, X_NHWC)
    assert np.array_equal(dataset.test.x_NHWC, X_NHWC[:4])
    assert np.array_equal(dataset.selection.y_N, Y_N[4:9])


def test_the_hash_does_not_depend_on_the_container(load: Load, tmp_path: Path) -> None:
    first = load(extra=np.arange(9)).sha256
    np.savez(tmp_path / "b.npz", y_train=Y_N.astype(np.uint8), x_train=np.asfortranarray(X_NHWC))
    assert load_npz(tmp_path / "b.npz").sha256 == first == load(x_train=X_NHWC / 255).sha256


def test_images_without_a_channel_axis_get_one(load: Load) -> None:
    assert load(x_train=X_NHWC[..., 0]).train.x_NHWC.shape == (21, 6, 5, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_0_to_1_are_rounded_to_bytes(load: Load, dtype: Any) -> None:
    given = load(x_train=(X_NHWC / 255).astype(dtype), x_test=(X_NHWC / 255).astype(dtype), y_test=Y_N)
    assert np.array_equal(given.test.x_NHWC, X_NHWC)


def test_class_names_reach_the_task(load: Load) -> None:
    assert load(class_names=np.array(["cat", "dog", "eel"])).task.class_names == ("cat", "dog", "eel")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, ">i4"])
def test_columns_of_zeros_and_ones_are_many_labels(load: Load, dtype: Any) -> None:
    given = Y_NK.astype(dtype)
    dataset = load(y_train=given, x_test=X_NHWC[:9], y_test=given[:9], class_names=np.array(["a", "b", "c"]))
    assert (dataset.task.kind, dataset.task.classes, dataset.task.class_names) == ("multilabel", 3, ("a", "b", "c"))
    assert dataset.test.y_N.dtype == np.uint8
    assert np.array_equal(dataset.test.y_N, Y_NK[:9])
    assert len(dataset.train) + len(dataset.selection) == 30
    assert dataset.task.prevalence == tuple(dataset.train.y_N.mean(0))


def test_many_labels_hash_alike_whatever_their_type(load: Load) -> None:
    assert load(y_train=Y_NK).sha256 == load(y_train=np.asfortranarray(Y_NK.astype(np.int32))).sha256


def test_one_label_in_one_split_alone_leaves_the_task_multi_label(load: Load) -> None:
    one = np.eye(3, dtype=int)[Y_N]
    assert load(y_train=Y_NK, x_test=X_NHWC, y_test=one).task.kind == "multilabel"


@pytest.mark.shared
def test_real_photographs_with_all_the_things_in_them_load(load: Load, shared: Path) -> None:
    with np.load(shared / "coco128_small.npz") as boxes:
        arrays = {}
        for ours, theirs in (("train", "train"), ("test", "val")):
            y_NK = np.zeros((len(boxes[f"x_{theirs}"]), 80), dtype=bool)
            row_B, class_B = boxes[f"boxes_{theirs}"][:, :2].astype(int).T
            y_NK[row_B, class_B] = True
            arrays |= {f"x_{ours}": boxes[f"x_{theirs}"], f"y_{ours}": y_NK}
    often = arrays["y_train"].sum(0) >= 5
    dataset = load(**{key: array[:, often] if key[0] == "y" else array for key, array in arrays.items()})
    assert (dataset.task.kind, dataset.task.classes, dataset.task.width) == ("multilabel", 31, 80)
    # In half of the photographs there are people.
    assert 0.4 < dataset.task.prevalence[0] < 0.6
    assert [len(split) for split in (dataset.train, dataset.test)] == [109, 128]
    assert dataset.train.y_N.sum(0).min() >= 4


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"needs {SHARED}")
def test_real_cifar_100_loads() -> None:
    dataset = load_npz(SHARED)
    assert (dataset.task.classes, dataset.task.in_chans, dataset.task.height) == (100, 3, 32)
    assert [len(split) for split in (dataset.train, dataset.selection, dataset.test)] == [200, 100, 100]
    assert np.bincount(dataset.train.y_N).tolist() == [2] * 100


def nan_in(row: int) -> np.ndarray:
    x_NHWC = X_NHWC / 255
    x_NHWC[row, 2, 2, 0] = np.nan
    return x_NHWC


def flags(row: int, column: int, value: int) -> np.ndarray:
    y_NK = Y_NK.astype(int)
    y_NK[row, column] = value
    return y_NK


def label(row: int, value: int) -> np.ndarray:
    y_N = Y_N.copy()
    y_N[row] = value
    return y_N


@pytest.mark.parametrize(
    ("field", "part", "arrays"),
    [
        ("x_train", "image 17 holds NaN", {"x_train": nan_in(17)}),
        ("x_train", "image 0 holds NaN or inf", {"x_train": np.full(X_NHWC.shape, np.inf)}),
        ("x_train", "from 0 to 255", {"x_train": np.where(np.arange(5)[:, None] == 0, 0.0, 255.0) + 0 * X_NHWC}),
        ("x_train", "undo any mean/std", {"x_train": X_NHWC / 255 - 0.5}),
        ("x_train", "x_train.astype(np.uint8)", {"x_train": X_NHWC.astype(np.int64)}),
        ("x_train", "transpose(0, 2, 3, 1)", {"x_train": X_NHWC.transpose(0, 3, 1, 2)}),
        ("x_train", "7 channels", {"x_train": np.zeros((30, 6, 5, 7), dtype=np.uint8)}),
        ("x_train", "reshape", {"x_train": X_NHWC.reshape(30, -1)}),
        ("x_train", "4 or more", {"x_train": X_NHWC[:, :3]}),
        ("x_train", "holds no image", {"x_train": X_NHWC[:0], "y_train": Y_N[:0]}),
        ("x_train", "unpickled", {"x_train": np.array([{"a": 1}], dtype=object)}),
        ("x_test", "(5, 6, 3)", {"x_test": X_NHWC.reshape(30, 5, 6, 3), "y_test": Y_N}),
        ("x_test", "no such array", {"y_test": Y_N}),
        ("y_test", "no such array", {"x_test": X_NHWC}),
        ("y_train", "only labels, x_train", {"y_train": None, "labels": Y_N}),
        ("x_val", "rename it x_selection", {"x_val": X_NHWC, "y_val": Y_N}),
        ("y_tset", "rename it y_test", {"y_tset": Y_N}),
        ("y_train", "label -1 of image 4", {"y_train": label(4, -1)}),
        ("y_train", "astype(np.int64)", {"y_train": Y_N.astype(float)}),
        ("y_train", "argmax", {"y_train": np.eye(3, dtype=int)[Y_N]}),
        ("y_train", "save y_train.argmax(axis=1), or y_train.astype(np.uint8)", {"y_train": np.eye(3)[Y_N]}),
        ("y_train", "exactly one label; save y_train.argmax(axis=1)", {"y_train": np.eye(3, dtype=bool)[Y_N]}),
        ("y_train", "ravel", {"y_train": Y_N[:, None]}),
        ("y_train", "column 2 of image 7 is -1", {"y_train": flags(7, 2, -1)}),
        ("y_train", "column 0 of image 3 is 2", {"y_train": flags(3, 0, 2)}),
        ("y_train", "label 1 is on 0 training image(s), 2 or more", {"y_train": Y_NK & [True, False, True]}),
        (
            "y_train",
            "label 2 is on 1 training image(s)",
            {"y_train": np.roll(Y_NK, -4, axis=0) & (Y_NK[:, 2:] | [1, 1, 0])},
        ),
        ("y_train", "label 0 is on every training image", {"y_train": Y_NK | [True, False, False]}),
        ("y_train", "29 labels for the 30 images", {"y_train": Y_NK[:-1]}),
        ("y_test", "2 columns of labels, y_train 3", {"y_train": Y_NK, "x_test": X_NHWC, "y_test": Y_NK[:, :2]}),
        ("y_test", "one label an image, y_train 3", {"y_train": Y_NK, "x_test": X_NHWC, "y_test": Y_N}),
        ("y_test", "3 columns of labels, y_train one label", {"x_test": X_NHWC, "y_test": Y_NK}),
        ("y_test", "nothing can be measured", {"y_train": Y_NK, "x_test": X_NHWC, "y_test": Y_NK & False}),
        ("class_names", "2 names for the 3 columns", {"y_train": Y_NK, "class_names": np.array(["a", "b"])}),
        ("y_train", "29 labels for the 30 images of x_train", {"y_train": Y_N[:-1]}),
        ("y_train", "class 1 of 0 to 4 has no training image", {"y_train": Y_N * 2}),
        ("y_train", "class 3 has 1 training image", {"y_train": label(0, 3)}),
        ("y_train", "one class", {"y_train": Y_N * 0}),
        ("y_train", "out of range", {"y_train": label(0, 0).astype(np.uint64) + np.uint64(2**63)}),
        ("y_test", "label 3 of image 2 is out of range", {"x_test": X_NHWC, "y_test": label(2, 3)}),
        ("y_selection", "0 to 2", {"x_selection": X_NHWC, "y_selection": label(2, 99)}),
        ("y_train", "label 2 of image 2 is out of range", {"class_names": np.array(["a", "b"])}),
        ("y_train", "class 3 ('d')", {"class_names": np.array(["a", "b", "c", "d"])}),
        ("class_names", "given twice", {"class_names": np.array(["a", "b", "a"])}),
        ("class_names", "one text for each", {"class_names": np.array([1, 2, 3])}),
        ("class_names", r"name 1, 'b\ud800', is no Unicode text", {"class_names": np.array(["a", "b\ud800", "c"])}),
        ("class_names", "what is no text", {"class_names": np.array([97, 0x110000, 99], np.uint32).view("<U1")}),
        ("class_names", "unpickled", {"class_names": np.array(["a", None, "c"], dtype=object)}),
        ("y_train", "and there are 30 labels", {"y_train": label(0, 2**62)}),
    ],
)
def test_wrong_arrays_are_refused(load: Load, refused, field: str, part: str, arrays: dict[str, Any]) -> None:
    with refused(DataError, field, part):
        load(**arrays)


@pytest.mark.parametrize(
    ("field", "part", "limits", "arrays"),
    [
        ("x_train", "31 images", Limits(max_examples=30), {"x_test": X_NHWC[:1], "y_test": Y_N[:1]}),
        ("x_train", "at most 2,000", Limits(max_bytes=2_000), {}),
        ("x_train", "6×5 pixels", Limits(max_side=5), {}),
        ("y_train", "10,000", Limits(max_classes=10_000), {"y_train": label(0, 2**62)}),
        ("y_train", "3 labels, at most 2", Limits(max_classes=2), {"y_train": Y_NK}),
    ],
)
def test_limits_hold(load: Load, refused, field: str, part: str, limits: Limits, arrays: dict[str, Any]) -> None:
    with refused(TooLarge, field, part):
        load(limits, **arrays)


def test_a_missing_cut_or_foreign_file_is_refused(tmp_path: Path, load: Load, refused) -> None:
    path = tmp_path / "a.npz"
    with refused(DataError, "path", "no file at"):
        load_npz(path)
    load()
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\x80\x04}.", b"\x93NUMPY\x01\x00"):
        path.write_bytes(data)
        with refused(DataError, "path", "np.savez_compressed"):
            load_npz(path)


def test_a_damaged_member_is_refused(tmp_path: Path, refused) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X_NHWC, y_train=Y_N)
    data = bytearray(path.read_bytes())
    data[data.index(X_NHWC.tobytes()[:50])] ^= 1
    path.write_bytes(data)
    with refused(DataError, "x_train", "CRC"):
        load_npz(path)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (900000000000, 32, 32, 3), }", "declares an array"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-30, 6, 5, 3), }", "declares an array"),
        ("{'descr': '<U0', 'fortran_order': False, 'shape': (30, 6, 5, 3), }", "declares an array"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (30, 6, 5, 3), }", "unpickled"),
        ("{'descr': ", "not a readable .npy"),
        ("(" * 3000, "not a readable .npy"),
        (" " * 60_000, "not a readable .npy"),
    ],
)
def test_a_forged_header_is_refused_before_memory_is_asked_for(make_zip, refused, header: str, part: str) -> None:
    forged = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + X_NHWC.tobytes()
    with refused(DataError, "x_train", part):
        load_npz(make_zip({"x_train.npy": forged, "y_train.npy": npy(Y_N)}))


def test_a_bomb_is_refused_by_its_declared_size(make_zip, refused) -> None:
    black = npy(np.zeros((2_000, 32, 32, 3), dtype=np.uint8))
    path = make_zip({"x_train.npy": black, "y_train.npy": npy(np.arange(2_000) % 2)})
    assert path.stat().st_size < len(black) / 500
    with refused(TooLarge, "x_train", "unpacks to"):
        load_npz(path, Limits(max_bytes=2**20))


def test_a_directory_that_understates_a_size_is_refused(make_zip, refused) -> None:
    path = make_zip({"x_train.npy": npy(X_NHWC), "y_train.npy": npy(Y_N)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1_000)
    path.write_bytes(data)
    with refused(DataError, "x_train", "cannot be unpacked"):
        load_npz(path)


def test_nothing_is_unpickled(tmp_path: Path, refused) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (ran,))

    np.savez(tmp_path / "a.npz", x_train=X_NHWC, y_train=np.array([Evil()], dtype=object))
    with refused(DataError, "y_train", "unpickled"):
        load_npz(tmp_path / "a.npz")
    assert not ran.exists()


def test_unread_arrays_are_not_even_unpacked(tmp_path: Path, load: Load) -> None:
    load()
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("notes.npy", b"not an array")
    assert load_npz(tmp_path / "a.npz").task.classes == 3


@pytest.mark.slow
def test_a_million_images_to_learn_from_are_no_wall_and_auto_searches_transformers(tmp_path: Path) -> None:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (1_000_000, 8, 8, 1), dtype=np.uint8)
    y_N = np.arange(len(x_NHWC)) % 10
    held = {"x_selection": 255 - x_NHWC[:40], "x_test": x_NHWC[:40] ^ 1, "y_selection": y_N[:40], "y_test": y_N[:40]}
    np.savez(tmp_path / "large.npz", x_train=x_NHWC, y_train=y_N, **held)
    dataset = load_npz(tmp_path / "large.npz")
    body = {
        "teacher": {"kind": "timm", "name": "resnet18"},
        "data": {"kind": "digits"},
        "budget": {"params_ratio": 0.5},
    }
    plan = checks.plan(parse_request(body), Known(dataset.task, len(dataset.train)))
    assert "vit" in plan.spaces
