"""Images that stay files are the very images that would have been read into memory."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archsearch import bounded
from archsearch.data import Dataset, batches
from archsearch.domains import is_whole, open_dataset, save_dataset
from archsearch.domains.images import load_image_folder, load_npz, streamed
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.measured import load_measured
from archsearch.domains.unpack import unpack
from archsearch.errors import DataError, TooMuchMemory
from archsearch.request import ImageFolderData

SPLITS = ("train", "selection", "test")
Files = Mapping[str, bytes]


def photo(
    seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB", format: str = "JPEG", **options: Any
) -> bytes:
    """Noise on a gradient, as a file."""
    rng, stream = np.random.default_rng(seed), io.BytesIO()
    base = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(base).astype(int) + rng.integers(-20, 20, (size[1], size[0], 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode).save(stream, format, **options)
    return stream.getvalue()


def sideways() -> Any:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def photos(each: int = 12) -> dict[str, bytes]:
    """Two classes, of several sizes, kinds and colours; a copy within train, and one in two classes."""
    found = {f"{name}/{i}.jpg": photo(100 * k + i, (40 + i, 30)) for k, name in enumerate("ab") for i in range(each)}
    found["a/grey.png"] = photo(7, mode="L", format="PNG")
    found["b/clear.png"] = photo(8, mode="RGBA", format="PNG")
    found["b/turned.jpg"] = photo(9, exif=sideways())
    found["a/copy.jpg"] = found["a/0.jpg"]
    return found


def in_folder(path: Path, files: Files) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def in_zip(path: Path, files: Files, packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """`load_image_folder`, however few the images, as it loads very many."""

    def load(*args: Any, **options: Any) -> Dataset:
        with monkeypatch.context() as patched:
            patched.setattr(streamed, "MOST_BYTES", 0)
            found = load_image_folder(*args, **options)
        assert all(isinstance(getattr(found, name), FileSplit) for name in SPLITS)
        return found

    return load


def check_same(found: Dataset, wanted: Dataset) -> None:
    assert (found.task, found.notes) == (wanted.task, wanted.notes)
    for name in SPLITS:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert np.array_equal(ours.y_N, theirs.y_N)
        assert np.array_equal(ours.pixels(slice(None)), theirs.x_NHWC)
        assert np.array_equal(ours.decoded(np.array([1, 0])), theirs.x_NHWC[[1, 0]])
        assert ours.examples(np.array([0])).equal(theirs.examples(np.array([0])))


GREY = {f"{name}/{i}.png": photo(10 * k + i, (9, 9), "L", "PNG") for k, name in enumerate("ab") for i in range(8)}
TABLE = {"labels.csv": b"file,x,y\n" + b"".join(f"{i}.png,{i % 2},{int(i < 9)}\n".encode() for i in range(24))}
MANY = {f"{i}.png": photo(i, (9, 9), format="PNG") for i in range(24)} | TABLE
GIVEN = {
    f"{split}/{name}/{i}.jpg": photo(1000 * at + 100 * k + i, (16, 16))
    for at, split in enumerate(("train", "val", "test"))
    for k, name in enumerate("ab")
    for i in range(4)
}


@pytest.mark.parametrize(
    ("files", "options"),
    [
        (photos(), {"image_size": 24}),
        (photos(), {"image_size": (24, 16), "fit": "pad"}),
        (photos(), {"image_size": 24, "duplicates": "drop"}),
        (photos() | {"b/broken.jpg": photo(3)[:300]}, {"image_size": 24, "on_broken": "skip"}),
        (GREY, {}),
        (MANY, {}),
        (GIVEN, {}),
    ],
    ids=["mixed", "padded", "dropped", "broken", "grey", "many labels", "given splits"],
)
def test_splits_and_pixels_are_those_of_memory(
    stream, tmp_path: Path, files: Files, options: dict[str, Any], subtests: pytest.Subtests
) -> None:
    folder = in_folder(tmp_path / "data", files)
    wanted, names = load_image_folder(folder, **options), set()
    for path in (
        folder,
        in_zip(tmp_path / "packed.zip", files),
        in_zip(tmp_path / "stored.zip", files, zipfile.ZIP_STORED),
        Path(shutil.copytree(folder, tmp_path / "moved")),
    ):
        with subtests.test(path.name):
            found = stream(path, **options)
            check_same(found, wanted)
            names.add(found.sha256)
    assert len(names) == 1, "the same files are the same data wherever they lie"
    assert wanted.sha256 not in names


def test_what_the_files_become_is_part_of_their_name(stream, tmp_path: Path) -> None:
    files = photos()
    of_24, of_16 = (stream(in_folder(tmp_path / "a", files), size).sha256 for size in (24, 16))
    other = stream(in_folder(tmp_path / "b", files | {"a/0.jpg": photo(4711, (40, 30))}), 24).sha256
    assert len({of_24, of_16, other, stream(tmp_path / "a", 24, fit="pad").sha256}) == 4


def test_only_what_would_take_more_than_a_constant_stays_files(tmp_path: Path) -> None:
    assert not streamed.streams(14_266, (224, 224))
    assert streamed.streams(14_267, (224, 224))
    assert not isinstance(load_image_folder(in_folder(tmp_path, GREY)).train, FileSplit)


def test_errors_are_those_of_memory(stream, tmp_path: Path, refused) -> None:
    with refused(DataError, "image_size", "so 24 is a good start"):
        stream(in_folder(tmp_path / "mixed", photos()))
    broken = in_folder(tmp_path / "broken", photos() | {"b/broken.jpg": photo(3)[:300]})
    for _ in range(2):  # the second time from what was kept
        with refused(DataError, "b/broken.jpg", "is damaged or no image"):
            stream(broken, 24, cache=tmp_path / "cache")


def test_files_are_read_once_and_again_where_one_has_changed(
    stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, told, looked = photos(), [], []
    folder, cache = in_folder(tmp_path / "data", files), tmp_path / "cache"
    real = streamed.survey
    monkeypatch.setattr(streamed, "survey", lambda *args: looked.append(1) or real(*args))
    first = stream(folder, 24, cache=cache, listener=lambda done, of: told.append((done, of)))
    assert told[-1] == (len(files), len(files))
    again = stream(folder, 24, cache=cache)
    assert (again.sha256, len(looked)) == (first.sha256, 1)
    check_same(again, load_image_folder(folder, 24))
    stream(folder, 16, cache=cache)
    (folder / "a/1.jpg").write_bytes(photo(4711))
    assert stream(folder, 24, cache=cache).sha256 != first.sha256
    assert len(looked) == 3
    for torn in cache.glob("images-*/digest_ND.npy"):
        torn.write_bytes(b"torn")
    for _ in range(2):
        stream(folder, 24, cache=cache)
    assert len(looked) == 4, "what is not whole is made again, once"


def test_a_full_or_forbidden_cache_only_costs_another_reading(stream, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = stream(in_folder(tmp_path / "data", photos()), 24, cache=tmp_path / "file" / "below")
    assert found.task.width == 24


def test_a_file_that_changes_afterwards_is_named(stream, tmp_path: Path, refused) -> None:
    folder = in_folder(tmp_path / "data", photos())
    found = stream(folder, 24)
    at = {found.train.encoded.name(row): place for place, row in enumerate(found.train.row_N.tolist())}
    changed, gone = list(at)[:2]
    before = (folder / changed).stat()
    data = bytearray((folder / changed).read_bytes())
    data[-9] ^= 1  # the same size, and the same time of change
    (folder / changed).write_bytes(data)
    os.utime(folder / changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / gone).unlink()
    with refused(DataError, changed, "has changed since the data were read"):
        found.train.pixels(np.array([at[changed]]))
    with refused(DataError, gone, "cannot be read any more"):
        found.train.pixels(np.array([at[gone], 3]))


def test_stored_with_its_files_it_outlives_them(stream, tmp_path: Path) -> None:
    packed = in_zip(tmp_path / "data.zip", photos())
    wanted, found = load_image_folder(packed, 24), stream(packed, 24)
    for _ in range(2):  # the second time it is there already, and left alone
        save_dataset(found, tmp_path / "own", own=True)
    save_dataset(found, tmp_path / "referring")
    assert not (tmp_path / "referring" / "images.bin").exists()
    check_same(open_dataset(tmp_path / "referring"), wanted)
    packed.unlink()
    assert not is_whole(tmp_path / "referring")
    moved = (tmp_path / "own").rename(tmp_path / "elsewhere")
    opened = open_dataset(moved)
    check_same(opened, wanted)
    assert opened.sha256 == found.sha256
    os.truncate(moved / "images.bin", 1000)
    assert not is_whole(moved)


def test_what_is_dropped_is_not_stored(stream, tmp_path: Path) -> None:
    folder = in_folder(tmp_path / "data", photos())
    every, less = stream(folder, 24), stream(folder, 24, duplicates="drop")
    for name, dataset in (("every", every), ("less", less)):
        save_dataset(dataset, tmp_path / name, own=True)
    sizes = [(tmp_path / name / "images.bin").stat().st_size for name in ("every", "less")]
    assert sizes[0] - sizes[1] == (folder / "a/0.jpg").stat().st_size
    check_same(open_dataset(tmp_path / "less"), load_image_folder(folder, 24, duplicates="drop"))


def test_a_folder_that_is_gone_is_said_so(stream, tmp_path: Path, refused) -> None:
    folder = in_folder(tmp_path / "data", photos())
    save_dataset(stream(folder, 24), tmp_path / "stored")
    shutil.rmtree(folder)
    with refused(DataError, "path", "the folder of images is gone"):
        open_dataset(tmp_path / "stored")


@pytest.mark.parametrize("part", ["auto", "all", "selection"])
def test_networks_are_measured_on_the_same_images(
    stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Any
) -> None:
    spec = ImageFolderData(path=in_folder(tmp_path / "data", photos()), image_size=24)
    known = load_image_folder(spec.path, 24).task
    wanted = load_measured(spec, known, part)
    learned = stream(spec.path, 24).sha256
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    found = load_measured(spec, known, part, learned_from=None if part == "all" else learned)
    assert found.part == ("test" if part == "auto" else part)
    if part == "all":
        assert np.array_equal(found.dataset.test.pixels(slice(None)), wanted.dataset.test.x_NHWC)
    else:
        assert len(found.dataset.test) < len(wanted.dataset.train)


def test_an_upload_is_stored_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    content = in_zip(tmp_path / "content", photos())
    told: list[Any] = []
    limits = {"max_examples": 5000}
    row = unpack(told.append, str(content), "image_folder", {"image_size": 24}, limits, str(tmp_path / "stored"))
    content.unlink()
    opened = open_dataset(tmp_path / "stored")
    assert (opened.sha256, json.loads((tmp_path / "stored" / "task.json").read_text())["format"]) == (row["sha256"], 2)
    assert {path.name for path in (tmp_path / "stored").glob("*_x.npy")} == set()
    assert sum(row["splits"].values()) == len(photos())
    assert opened.train.pixels(slice(2)).shape == (2, 24, 24, 3)


@pytest.mark.slow
def test_memory_is_bounded_however_much_the_pixels_would_take(tmp_path: Path) -> None:
    """2.1 GB of pixels by a child that may have 900 MB: it failed for want of memory when all were decoded first."""
    files = {f"{k}/{i}.png": photo(2 * i + k, (32, 32), format="PNG") for k in range(2) for i in range(1370)}
    arguments = {
        "path": str(in_zip(tmp_path / "content", files)), "format": "image_folder", "options": {"image_size": 512},
        "limits": {}, "folder": str(tmp_path / "stored"),
    }  # fmt: skip
    bounded.run(unpack, arguments, what="reading", limit_s=300, memory_bytes=900 * 2**20)
    opened = open_dataset(tmp_path / "stored")
    assert isinstance(opened.train, FileSplit)
    assert sum(len(getattr(opened, name)) for name in SPLITS) == len(files)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_what_memory_cannot_hold_is_refused_before_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x_train=x_NHWC, y_train=np.arange(40) % 2)
    monkeypatch.setattr(batches, "available_bytes", lambda: 2 * x_NHWC.nbytes - 1)
    if kind == "npz":
        with pytest.raises(TooMuchMemory, match="as files in a folder or zip") as caught:
            load_npz(tmp_path / "data.npz")
    else:
        with pytest.raises(TooMuchMemory, match="set a smaller image_size") as caught:
            load_image_folder(in_folder(tmp_path / "data", photos()), 24)
    assert caught.value.field == {"npz": "x_train", "folder": "image_size"}[kind]
