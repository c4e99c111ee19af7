from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archsearch.data import Limits
from archsearch.domains.images import load_image_folder
from archsearch.domains.images.images import decode
from archsearch.domains.images.layout import plan
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
    dataset = load_image_folder(make_zip(members), image_size=5, duplicates="warn")
    assert dataset.train.x_NHWC.shape[1:] == (5, 5, 3)
    assert (dataset.train.x_NHWC[:, :, 2] == [0, 0, 255]).all()
    same = {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate("ab") for i in range(3)}
    assert load_image_folder(make_zip(same), 6).sha256 == load_image_folder(make_zip(same)).sha256


def test_resizing_is_antialiased(make_zip) -> None:
    board = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8))
    dataset = load_image_folder(
        make_zip({f"{n}/{i}.png": saved(board) for n in "ab" for i in range(3)}), 8, duplicates="warn"
    )
    assert np.abs(dataset.train.x_NHWC.astype(int) - 127).max() < 10


def test_the_exif_orientation_is_applied(make_zip) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.new("L", (8, 4), 0)
    photo.paste(255, (0, 0, 4, 4))
    members = {f"{n}/{i}.png": saved(photo, exif=exif) for n in "ab" for i in range(3)}
    x_NHWC = load_image_folder(make_zip(members), duplicates="warn").train.x_NHWC
    assert x_NHWC.shape[1:] == (8, 4, 1)
    assert (x_NHWC[:, :4] == 255).all()
    assert (x_NHWC[:, 4:] == 0).all()


def test_transparency_becomes_white(make_zip) -> None:
    clear = saved(Image.new("RGBA", (6, 6), (200, 0, 0, 0)))
    dataset = load_image_folder(make_zip({f"{n}/{i}.png": clear for n in "ab" for i in range(3)}), duplicates="warn")
    assert (dataset.train.x_NHWC == 255).all()


@pytest.mark.parametrize(
    ("field", "part", "names"),
    [
        ("dog/", "1 training image(s), 2 or more", ["cat/0.png", "cat/1.png", "dog/0.png"]),
        ("dog/", "0 training image(s)", ["cat/0.png", "cat/1.png", "dog/"]),
        ("path", "only one class folder, cat/", ["cat/0.png", "cat/1.png"]),
        ("path", "only one class folder, cat/", ["train/cat/0.png", "train/cat/x/1.png", "test/cat/2.png"]),
        ("path", "no class folder", []),
        ("path", "2 images and none has a label", ["0.png", "1.png"]),
        ("0.png", "beside the class folders", ["0.png", "1.png", "cat/"]),
        ("stray.png", "beside the class folders", ["cat/0.png", "dog/0.png", "stray.png"]),
        ("train/0.png", "beside the class folders", ["train/0.png", "train/cat/0.png", "train/dog/0.png"]),
        ("cat/test/", "not every class folder", ["cat/train/0.png", "cat/test/1.png", "dog/0.png", "dog/1.png"]),
        ("cat/test/", "not every class folder", ["cat/0.png", "cat/test/1.png", "dog/0.png", "dog/test/1.png"]),
        ("train/cat/val/0.png", "split within a split", ["train/cat/val/0.png", "train/dog/0.png"]),
        ("cat/0.heic", "convert", ["cat/0.heic", "dog/0.png"]),
        ("cat/0001", "convert", ["cat/0001", "dog/0.png"]),
        ("path", "2 images and none has a label", ["train/0.png", "test/1.png"]),
        ("train/", "add train/", ["test/0.png", "test/1.png", "test/2.png"]),
        ("test/", "no class folders", ["train/0.png", "test/1.png", "2.png"]),
        ("train/", "no class folders", ["train/0.png", "val/1.png", "validation/2.png"]),
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
        plan(names, Limits(max_examples=5))
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
    with refused(InvalidRequest, "image_size", "4 pixels or more and 512 at most"):
        load_image_folder(make_zip(good), image_size=513, limits=Limits(max_side=512))
    assert load_image_folder(make_zip(good), image_size=513).task.width == 513


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


def test_sixteen_bit_pictures_are_scaled_rather_than_clipped(make_zip) -> None:
    """Pillow's own conversion makes 255 of everything above it."""
    deep = saved(Image.fromarray(np.full((6, 6), 40_000, dtype=np.uint16)))
    dataset = load_image_folder(make_zip({f"{n}/{i}.png": deep for n in "ab" for i in range(3)}), duplicates="warn")
    assert (dataset.task.in_chans, set(dataset.train.x_NHWC.ravel())) == (1, {round(40_000 / 257)})


def test_pixels_of_32_bits_are_refused_for_want_of_a_scale(good, make_zip, refused) -> None:
    deep = saved(Image.fromarray(np.full((6, 6), 0.5, dtype=np.float32)), "TIFF")
    with refused(DataError, "cat/a.tif", "32 bits"):
        load_image_folder(make_zip(good | {"cat/a.tif": deep}))


def test_all_broken_images_are_told_in_one_message(good, make_zip, refused) -> None:
    """Whoever mended one used to be told of the next, once for each."""
    bad = {f"cat/bad{i}.png": good["cat/0.png"][: 20 * (i % 3)] for i in range(7)}
    with refused(DataError, "path", "7 of 13 images cannot be read: cat/bad0.png is damaged"):
        load_image_folder(make_zip(good | bad))
    with refused(DataError, "path", "and 2 more"):
        load_image_folder(make_zip(good | bad))


def test_broken_images_are_left_out_on_request_and_counted(good, make_zip) -> None:
    bad = {"cat/bad.png": b"no image", "dog/bad.png": good["dog/0.png"][:30]}
    left = load_image_folder(make_zip(good | bad), on_broken="skip")
    assert left.sha256 == load_image_folder(make_zip(good)).sha256
    (note,) = left.notes
    assert note.code == "broken_images"
    assert note.detail.startswith("left out: 2 of 8 images cannot be read: cat/bad.png is damaged")


def test_a_class_of_broken_images_is_refused_even_so(good, make_zip, refused) -> None:
    bad = {f"eel/{i}.png": b"no image" for i in range(3)} | {"eel/good.png": good["cat/0.png"]}
    with refused(DataError, "eel/", "1 training image(s) of class 'eel' can be read"):
        load_image_folder(make_zip(good | bad), on_broken="skip")
    held_out = {f"train/{name}": data for name, data in good.items()} | {"test/cat/0.png": b""}
    with refused(DataError, "path", "no image of the test split"):
        load_image_folder(make_zip(held_out), on_broken="skip")


def test_reading_tells_how_far_it_is(good, make_zip) -> None:
    told: list[tuple[int, int]] = []
    load_image_folder(make_zip(good), listener=lambda *at: told.append(at))
    assert told[-1] == (6, 6)


@pytest.mark.parametrize(
    ("fit", "middle", "corner"), [("crop", "blue", "blue"), ("pad", "blue", "white"), ("stretch", "blue", "red")]
)
def test_images_of_other_shapes_are_cropped_padded_or_stretched(make_zip, fit: str, middle: str, corner: str) -> None:
    """A red strip of 40×120 pixels with a blue square in its middle, on 12×12; and the task remembers how."""
    strip = Image.new("RGB", (120, 40), "red")
    strip.paste((0, 0, 255), (40, 0, 80, 40))
    strips = make_zip({f"{n}/{i}.png": saved(strip) for n in "ab" for i in range(3)})
    dataset = load_image_folder(strips, 12, fit=fit, duplicates="warn")
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
    assert dataset.task.fit == fit
    assert tuple(dataset.train.x_NHWC[0, 6, 6]) == colours[middle]
    # At the edge of a crop the filter still sees what lies beside it.
    np.testing.assert_allclose(dataset.train.x_NHWC[0, 0, 0], colours[corner], atol=20)


def test_height_and_width_may_differ(good, make_zip, picture) -> None:
    path = make_zip(good | {"dog/big.png": picture(size=(9, 7))})
    task = load_image_folder(path, (8, 12)).task
    assert (task.height, task.width) == (8, 12)


def test_the_size_suggested_is_the_data_s_own(good, make_zip, picture, refused) -> None:
    sizes = ((100, 61), (90, 70), (64, 300), (50, 80), (200, 64))
    path = make_zip({f"{n}/{i}.png": picture(size=size) for n in "ab" for i, size in enumerate(sizes)})
    with refused(DataError, "image_size", "is 64 and 100 pixels, so 64 is a good start (--image-size 64)"):
        load_image_folder(path)


@pytest.mark.parametrize(
    "names",
    [
        ["cat/1.png", "cat/wild/2.png", "cat/wild/old/3.png", "dog/4.png", "dog/5.png"],
        ["a/b/cat/1.png", "a/b/cat/2.png", "a/b/dog/3.png", "a/b/dog/deep/4.png"],
        ["a/train/cat/1.png", "a/train/cat/2.png", "a/train/dog/x/3.png", "a/train/dog/4.png", "a/test/cat/5.png"],
        ["train/images/cat/1.png", "train/images/cat/2.png", "train/images/dog/3.png", "train/images/dog/4.png"],
        ["cat/train/1.png", "cat/train/2.png", "cat/test/5.png", "dog/train/3.png", "dog/train/4.png", "dog/val/6.png"],
    ],
    ids=["beneath", "two around", "splits at depth two", "one within the split", "splits within the classes"],
)
def test_folders_around_and_within_the_classes_are_understood(names: list[str]) -> None:
    layout = plan(names, Limits())
    assert layout.class_names == ("cat", "dog")
    for split, found in layout.files.items():
        told = [layout.class_names[label] for label in layout.labels[split]]
        assert all(class_name in name.split("/") for class_name, name in zip(told, found, strict=True))
        assert all((split in ("train", "selection")) or split in name for name in found)
    assert sorted(name for found in layout.files.values() for name in found) == sorted(names)


def test_folders_within_classes_are_told_for_they_might_be_classes() -> None:
    (note,) = plan(["pets/cat/1.png", "pets/dog/2.png", "wild/fox/3.png", "wild/4.png"], Limits()).notes
    assert note.code == "nested_folders"
    assert "those of pets/cat/, pets/dog/ for 'pets'" in note.detail
    assert plan(["a/0.png", "a/1.png", "b/0.png", "b/1.png"], Limits()).notes == ()


@pytest.mark.parametrize(
    ("mode", "format", "options"),
    [("CMYK", "JPEG", {}), ("P", "PNG", {"transparency": 0}), ("P", "GIF", {"transparency": 0}), ("LA", "PNG", {}),
     ("1", "TIFF", {}), ("RGBA", "WEBP", {"lossless": True}), ("I;16", "PNG", {}), ("L", "JPEG", {})],
)  # fmt: skip
def test_every_kind_of_file_is_read_as_a_viewer_shows_it(mode: str, format: str, options: dict[str, Any]) -> None:
    """A white left half and a dark right one, in every mode; what is transparent is white too."""
    image = Image.new("L", (40, 20), 255)
    image.paste(0, (20, 0, 40, 20))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode == "P":  # colour 0 is transparent: the left half is left to it
        image = image.point(lambda level: 0 if level else 1).convert("P")
        image.putpalette([9, 9, 9, 0, 0, 0])
    elif mode in ("LA", "RGBA"):
        clear = image.convert(mode)
        clear.putalpha(image.point(lambda level: 255 - level))
        image = clear
    else:
        image = image.convert(mode)
    found = decode("x", saved(image, format, **options), (10, 20), Limits())
    assert found.shape == (10, 20, 1 if mode in ("1", "L", "LA", "I;16") else 3)
    assert (found[:, :8] > 240).all()
    assert (found[:, 12:] < 15).all()


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
    with refused(TooLarge, "path", "6 of 6 images cannot be read: cat/0.png has 182 bytes, one file may have 100"):
        load_image_folder(root, limits=Limits(max_file_bytes=100))
    with refused(TooLarge, "path", "more than 7"):
        load_image_folder(root, limits=Limits(max_members=7))


def test_a_path_that_is_nothing_or_no_zip_is_refused(tmp_path: Path, refused) -> None:
    with refused(DataError, "path", "no file at"):
        load_image_folder(tmp_path / "nothing")
    (tmp_path / "a.zip").write_bytes(b"Rar!")
    with refused(DataError, "path", "no zip at all"):
        load_image_folder(tmp_path / "a.zip")


def test_a_name_that_is_no_utf_8_is_refused(good, make_folder, refused) -> None:
    """It would be a class name that no answer and no database can hold."""
    root = make_folder(good)
    os.mkdir(os.fsencode(root) + b"/eel\xff")
    with refused(DataError, r"eel\udcff", "no UTF-8; rename it"):
        load_image_folder(root)
