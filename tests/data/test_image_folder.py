from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archsearch.data import Limits, load_image_folder
from archsearch.data.layout import plan
from archsearch.errors import DataError, InvalidRequest, TooLarge

Picture = Callable[..., bytes]


@pytest.fixture
def good(picture: Picture) -> dict[str, bytes]:
    """Three pictures each of cats and dogs."""
    return {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(3)}


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[[Mapping[str, bytes]], Path]:
    def make(members: Mapping[str, bytes]) -> Path:
        for name, data in members.items():
            (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / name).write_bytes(data)
        return tmp_path / "data"

    return make


def saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def test_a_folder_and_its_zip_are_the_same_data(good, make_folder, make_zip) -> None:
    folder, packed = load_image_folder(make_folder(good)), load_image_folder(make_zip(good))
    assert folder.sha256 == packed.sha256
    assert folder.task == packed.task
    assert (folder.task.class_names, folder.task.in_chans, folder.task.height) == (("cat", "dog"), 3, 6)
    assert [np.bincount(split.y_N).tolist() for split in (folder.train, folder.selection, folder.test)] == [[1, 1]] * 3


def test_a_wrapping_folder_junk_and_documents_change_nothing(good, make_zip) -> None:
    plain = load_image_folder(make_zip(good)).sha256
    junk = {
        "__MACOSX/pets/cat/._0.png": b"?",
        ".DS_Store": b"?",
        "pets/cat/.hidden.png": b"?",
        "pets/dog/Thumbs.db": b"?",
        "pets/README": b"about",
        "pets/cat/labels.csv": b"0.png,cat",
        "license.txt": b"free",
    }
    assert load_image_folder(make_zip({f"pets/{name}": data for name, data in good.items()} | junk)).sha256 == plain


def test_train_val_and_test_folders_become_the_splits(good, make_zip, picture) -> None:
    members = {f"Train/{name}": data for name, data in good.items()}
    members |= {"val/cat/v.png": picture(50), "test/dog/t.png": picture(51)}
    dataset = load_image_folder(make_zip(members))
    assert (len(dataset.train), dataset.selection.y_N.tolist(), dataset.test.y_N.tolist()) == (6, [0], [1])
    assert dataset.test.x_NHWC.tobytes() == np.array(Image.open(io.BytesIO(picture(51)))).tobytes()


def test_a_class_may_be_called_train() -> None:
    layout = plan([f"{name}/{i}.jpg" for name in ("train", "bus", "car") for i in range(2)], Limits())
    assert layout.class_names == ("bus", "car", "train")


def test_labels_follow_the_sorted_names_as_torchvisions_do() -> None:
    names = [f"{name}/{i}.jpg" for name in ("10", "9", "1", "b", "B") for i in range(2)]
    assert plan(names, Limits()).class_names == ("1", "10", "9", "B", "b")


def test_grey_files_give_one_channel_only_if_all_are(good, make_zip, picture) -> None:
    grey = {name: picture(i, mode="L") for i, name in enumerate(good)}
    assert load_image_folder(make_zip(grey)).task.in_chans == 1
    mixed = load_image_folder(make_zip(grey | {"cat/0.png": picture(0)}))
    greys = sum(
        (x_HWC == x_HWC[..., :1]).all() for s in (mixed.train, mixed.selection, mixed.test) for x_HWC in s.x_NHWC
    )
    assert (mixed.task.in_chans, greys) == (3, 5)


@pytest.mark.parametrize(
    ("name", "format"),
    [("0.png", "PNG"), ("0.JPG", "JPEG"), ("0.bmp", "BMP"), ("0.gif", "GIF"), ("0.webp", "WEBP"), ("0.tif", "TIFF")],
)
def test_usual_formats_are_read(good, make_zip, picture, name: str, format: str) -> None:
    assert load_image_folder(make_zip(good | {f"cat/x{name}": picture(format=format)})).task.in_chans == 3


def test_image_size_takes_the_centre_and_leaves_fitting_images_alone(make_zip, picture) -> None:
    wide = Image.new("RGB", (30, 10), "red")
    wide.paste((0, 0, 255), (10, 0, 20, 10))
    members = {f"{name}/{i}.png": saved(wide) for name in "ab" for i in range(3)}
    dataset = load_image_folder(make_zip(members), image_size=5)
    assert dataset.train.x_NHWC.shape[1:] == (5, 5, 3)
    assert (dataset.train.x_NHWC[:, :, 2] == [0, 0, 255]).all()
    same = {f"{name}/{i}.png": picture(i) for name in "ab" for i in range(3)}
    assert load_image_folder(make_zip(same), 6).sha256 == load_image_folder(make_zip(same)).sha256


def test_resizing_is_antialiased(make_zip) -> None:
    board = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8))
    dataset = load_image_folder(make_zip({f"{n}/{i}.png": saved(board) for n in "ab" for i in range(3)}), 8)
    assert np.abs(dataset.train.x_NHWC.astype(int) - 127).max() < 10


def test_the_exif_orientation_is_applied(make_zip) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.new("L", (8, 4), 0)
    photo.paste(255, (0, 0, 4, 4))
    members = {f"{n}/{i}.png": saved(photo, exif=exif) for n in "ab" for i in range(3)}
    x_NHWC = load_image_folder(make_zip(members)).train.x_NHWC
    assert x_NHWC.shape[1:] == (8, 4, 1)
    assert (x_NHWC[:, :4] == 255).all()
    assert (x_NHWC[:, 4:] == 0).all()


def test_transparency_becomes_white(make_zip) -> None:
    clear = saved(Image.new("RGBA", (6, 6), (200, 0, 0, 0)))
    dataset = load_image_folder(make_zip({f"{n}/{i}.png": clear for n in "ab" for i in range(3)}))
    assert (dataset.train.x_NHWC == 255).all()


@pytest.mark.parametrize(
    ("field", "part", "names"),
    [
        ("dog/", "1 training image(s), 2 or more", ["cat/0.png", "cat/1.png", "dog/0.png"]),
        ("dog/", "0 training image(s)", ["cat/0.png", "cat/1.png", "dog/"]),
        ("path", "only one class folder, cat/", ["cat/0.png", "cat/1.png"]),
        ("path", "no class folder", []),
        ("0.png", "beside the class folders", ["0.png", "1.png"]),
        ("stray.png", "beside the class folders", ["cat/0.png", "dog/0.png", "stray.png"]),
        ("train/0.png", "beside the class folders", ["train/0.png", "train/cat/0.png", "train/dog/0.png"]),
        ("cat/deep/0.png", "deeper", ["cat/deep/0.png", "dog/0.png"]),
        ("cat/0.heic", "convert", ["cat/0.heic", "dog/0.png"]),
        ("cat/0001", "convert", ["cat/0001", "dog/0.png"]),
        ("test/", "no class folders", ["train/0.png", "test/1.png"]),
        ("train/", "add train/", ["test/cat/0.png", "val/cat/0.png"]),
        ("extra/", "lies beside", ["train/cat/0.png", "extra/0.png"]),
        ("validation/", "same split", ["train/cat/0.png", "val/cat/0.png", "validation/cat/0.png"]),
        ("eel/", "no folder in train/", [f"train/{n}/{i}.png" for n in "ab" for i in "01"] + ["test/eel/0.png"]),
        ("path", "test split holds no image", [f"train/{n}/{i}.png" for n in "ab" for i in "01"] + ["test/a/"]),
    ],
)
def test_a_wrong_layout_is_refused(refused, field: str, part: str, names: list[str]) -> None:
    with refused(DataError, field, part):
        plan(names, Limits())


def test_limits_on_names_hold(refused) -> None:
    names = [f"{n}/{i}.png" for n in "abc" for i in "01"]
    with refused(TooLarge, "path", "6 images"):
        plan(names, Limits(max_images=5))
    with refused(TooLarge, "path", "3 class folders"):
        plan(names, Limits(max_classes=2))


def test_different_sizes_need_image_size(good, make_zip, picture, refused) -> None:
    path = make_zip(good | {"dog/big.png": picture(size=(9, 7))})
    with refused(DataError, "image_size", "dog/big.png is 7×9 pixels, cat/0.png 6×6"):
        load_image_folder(path)
    assert load_image_folder(path, image_size=6).task.width == 6


def test_sizes_out_of_range_are_refused(good, make_zip, picture, refused) -> None:
    with refused(TooLarge, "image_size", "at most"):
        load_image_folder(make_zip(good), limits=Limits(max_side=5))
    with refused(DataError, "cat/tiny.png", "4 or more"):
        load_image_folder(make_zip(good | {"cat/tiny.png": picture(size=(3, 9))}))
    with refused(InvalidRequest, "image_size", "4-512"):
        load_image_folder(make_zip(good), image_size=513)


def test_decoded_pixels_are_limited_too(good, make_folder, refused) -> None:
    with refused(TooLarge, "image_size", "take 18,432 bytes"):
        load_image_folder(make_folder(good), image_size=32, limits=Limits(max_bytes=18_431))


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_a_truncated_or_empty_picture_is_named(good, make_zip, refused, cut: int) -> None:
    with refused(DataError, "dog/1.png", "damaged or no image"):
        load_image_folder(make_zip(good | {"dog/1.png": good["dog/1.png"][:cut]}))


def test_other_formats_are_not_even_tried(good, make_zip, picture, refused) -> None:
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", picture(format="PPM"), b"<svg/>"):
        with refused(DataError, "cat/a.png", "damaged or no image"):
            load_image_folder(make_zip(good | {"cat/a.png": data}))


def test_sixteen_bit_pictures_are_refused_rather_than_clipped(good, make_zip, refused) -> None:
    deep = saved(Image.fromarray(np.full((6, 6), 40_000, dtype=np.uint16)))
    with refused(DataError, "cat/a.png", "8 bits"):
        load_image_folder(make_zip(good | {"cat/a.png": deep}))


@pytest.mark.parametrize("side", [8_000, 60_000])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(good, make_zip, refused, side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    idat = b"IDAT" + zlib.compress(bytes(1000))
    bomb += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with refused(TooLarge, "cat/bomb.png", "pixels"):
        load_image_folder(make_zip(good | {"cat/bomb.png": bomb}), image_size=8)


def test_links_are_followed_to_files_inside_the_folder_only(good, make_folder, tmp_path, refused) -> None:
    root = make_folder(good)
    (root / "cat" / "again.png").symlink_to(root / "cat" / "0.png")
    loaded = load_image_folder(root)
    assert sum(map(len, (loaded.train, loaded.selection, loaded.test))) == 7
    (tmp_path / "secret.png").write_bytes(good["cat/0.png"])
    for name, target in (("cat/out.png", tmp_path / "secret.png"), ("loop", root), ("cat/gone.png", root / "nothing")):
        (root / name).symlink_to(target)
        with refused(DataError, name, "symbolic link"):
            load_image_folder(root)
        (root / name).unlink()


def test_a_pipe_does_not_hang_the_loader(good, make_folder, refused) -> None:
    root = make_folder(good)
    os.mkfifo(root / "cat" / "pipe.png")
    with refused(DataError, "cat/pipe.png", "special file"):
        load_image_folder(root)


def test_large_and_many_files_of_a_folder_are_refused(good, make_folder, refused) -> None:
    root = make_folder(good)
    with refused(TooLarge, "cat/0.png", "one file may have 100"):
        load_image_folder(root, limits=Limits(max_file_bytes=100))
    with refused(TooLarge, "path", "more than 7"):
        load_image_folder(root, limits=Limits(max_members=7))


def test_a_path_that_is_nothing_or_no_zip_is_refused(tmp_path: Path, refused) -> None:
    with refused(DataError, "path", "no file at"):
        load_image_folder(tmp_path / "nothing")
    (tmp_path / "a.zip").write_bytes(b"Rar!")
    with refused(DataError, "path", "no zip at all"):
        load_image_folder(tmp_path / "a.zip")
