from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archsearch import bounded
from archsearch.data import Limits
from archsearch.domains import open_dataset
from archsearch.domains.unpack import unpack
from archsearch.errors import ArchsearchError, DataError, TooLarge, TooMuchMemory

LIMITS = {"max_bytes": 2_000_000, "max_examples": 5000}


def read(folder: Path, content: bytes, format: str, **limits: int) -> dict[str, Any]:
    path = folder / "content"
    path.write_bytes(content)
    return unpack(lambda share: None, str(path), format, {}, {**LIMITS, **limits}, str(folder / "stored"))


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def small_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (120, 8, 8, 1), dtype=np.uint8),
        "y_train": np.arange(120) % 4,
        "x_test": rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8),
        "y_test": np.arange(40) % 4,
    }


def picture(seed: int = 0, height: int = 8, width: int = 8) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


PICTURES = {f"{name}/{i}.png": picture(10 * i + len(name)) for name in ("cat", "horse") for i in range(12)}


def folder(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_nan() -> dict[str, Any]:
    arrays = small_arrays()
    x_train = arrays["x_train"].astype(np.float32) / 255
    x_train[3, 2, 1] = np.nan
    return {**arrays, "x_train": x_train, "x_test": arrays["x_test"].astype(np.float32) / 255}


def outside() -> dict[str, Any]:
    arrays = small_arrays()
    return {**arrays, "y_test": arrays["y_test"] + 7}


BAD_ARRAYS: list[tuple[Callable[[], bytes], str | None, str]] = [
    (lambda: npz(**with_nan()), "x_train", "image 3 holds NaN"),
    (lambda: npz(**outside()), "y_test", ""),
    (lambda: npz(**{**small_arrays(), "y_train": -small_arrays()["y_train"]}), "y_train", ""),
    (lambda: npz(**{**small_arrays(), "y_train": small_arrays()["y_train"][:-1]}), "y_train", ""),
    (lambda: npz(**{**small_arrays(), "x_train": np.array([{}] * 120, dtype=object)}), "x_train", "object"),
    (lambda: npz(**{**small_arrays(), "y_train": np.array(["cat"] * 120, dtype=object)}), "y_train", "object"),
    (lambda: npz(x_test=small_arrays()["x_test"], y_test=small_arrays()["y_test"]), "x_train", "x_train"),
    (lambda: npz(**{**small_arrays(), "y_train": np.eye(4)[small_arrays()["y_train"]]}), "y_train", "argmax"),
    (lambda: npz(**small_arrays())[:-200], None, ""),
    (lambda: npz(**small_arrays())[:5000], None, ""),
    (lambda: b"\n", None, ""),
    (lambda: b"\x93NUMPY but no zip", None, ""),
]


@pytest.mark.parametrize(("make", "field", "part"), BAD_ARRAYS)
def test_arrays_nothing_can_be_learned_from_are_refused_by_name(
    tmp_path: Path, make: Callable[[], bytes], field: str | None, part: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, make(), "npz")
    # The file as a whole is at fault where no array is.
    assert caught.value.field == field or field is None
    assert part in caught.value.detail


BAD_FOLDERS: list[tuple[Mapping[str, bytes], type[ArchsearchError], str]] = [
    ({**PICTURES, "../../evil.png": picture()}, DataError, "evil.png"),
    ({**PICTURES, "/etc/evil.png": picture()}, DataError, "evil.png"),
    ({**PICTURES, "cat/../../evil.png": picture()}, DataError, "evil.png"),
    ({**PICTURES, "cat/huge.png": b"\0" * 30_000_000}, TooLarge, ""),
    ({**PICTURES, "lonely/1.png": picture()}, DataError, "lonely"),
    ({**PICTURES, "cat/broken.png": picture()[:60]}, DataError, "broken.png"),
    ({**PICTURES, "cat/text.png": b"this is no picture"}, DataError, "text.png"),
    ({"cat/1.png": picture(), "cat/2.png": picture(1)}, DataError, ""),
    ({}, DataError, ""),
]


@pytest.mark.parametrize(("members", "kind", "part"), BAD_FOLDERS)
def test_folders_of_images_are_refused_by_member(
    tmp_path: Path, members: Mapping[str, bytes], kind: type[ArchsearchError], part: str
) -> None:
    with pytest.raises(kind) as caught:
        read(tmp_path, folder(members), "image_folder")
    assert part in str(caught.value)


def test_a_wrong_table_of_labels_is_refused_by_line(tmp_path: Path) -> None:
    members = {"1.png": picture(), "labels.csv": b"file,cat,dog\n1.png,1,maybe\n"}
    with pytest.raises(DataError, match="line 2: dog is 'maybe'") as caught:
        read(tmp_path, folder(members), "image_folder")
    assert caught.value.field == "labels.csv"


def test_what_the_row_keeps_is_plain_and_what_is_stored_is_the_data(tmp_path: Path) -> None:
    told: list[Any] = []
    (tmp_path / "content").write_bytes(npz(**small_arrays()))
    arguments = (str(tmp_path / "content"), "npz", {}, LIMITS, str(tmp_path / "stored"))
    found = unpack(told.append, *arguments)
    assert json.loads(json.dumps(found))["splits"] == {"train": 104, "selection": 16, "test": 40}
    stored = open_dataset(tmp_path / "stored")
    assert (stored.sha256, stored.task.classes) == (found["sha256"], found["task"]["classes"])
    assert told == sorted(told)
    assert told[-1] == 0.8
    assert unpack(told.append, *arguments) == found  # again, after a commit that was lost


def test_bombs_are_refused_by_what_they_say_of_themselves(tmp_path: Path) -> None:
    """Kilobytes of zeros that are megabytes, and members without end: neither is unpacked or listed."""
    most = {"max_bytes": 2**31, "max_examples": 10**6}
    zeros = np.zeros((20_000, 32, 32), np.uint8)
    with pytest.raises(TooLarge, match="as in a zip bomb") as caught:
        read(tmp_path, npz(x_train=zeros, y_train=np.arange(20_000) % 2), "npz", **most)
    assert caught.value.field == "x_train"
    many = folder({f"{i:06d}": b"" for i in range(2000)})
    with pytest.raises(TooLarge, match="has 2,000 members, at most 1,000 are taken"):
        read(tmp_path, many, "npz", **most)
    with pytest.raises(TooLarge, match="has 2,000 members, at most 1,999 are taken"):
        read(tmp_path, many, "image_folder", **most, max_members=1999)
    # The count in the last record is believed only where the directory is as short as that.
    forged = many[:-12] + (7).to_bytes(2, "little") + many[-10:]
    assert many[-12:-10] == (2000).to_bytes(2, "little")
    with pytest.raises(TooLarge, match="members, at most 100 are taken"):
        read(tmp_path, forged, "image_folder", **most, max_members=100)


def test_memory_is_bounded_whatever_comes(tmp_path: Path) -> None:
    arrays = {"x_train": np.full((3000, 100, 100, 3), 7, np.uint8), "y_train": np.arange(3000) % 2}
    np.savez(tmp_path / "content", **arrays)  # stored, as it is: 90 MB that turn into more
    arguments = {
        "path": str(tmp_path / "content.npz"), "format": "npz", "options": {}, "limits": {},
        "folder": str(tmp_path / "stored"),
    }  # fmt: skip
    with pytest.raises(TooMuchMemory, match="reading"):
        bounded.run(unpack, arguments, what="reading", limit_s=60, memory_bytes=100 * 2**20)
    assert Limits().max_bytes > 2**30  # or it would have been the size that was refused
