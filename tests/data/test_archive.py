from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from archsearch.data import Limits
from archsearch.data.archive import listening, open_zip, read_member
from archsearch.domains.images import load_image_folder, load_npz
from archsearch.errors import DataError, TooLarge

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("../evil.png", "'..'"),
        ("cat/../../evil.png", "'..'"),
        ("/etc/evil.png", "absolute"),
        ("C:/evil.png", "absolute"),
        ("..\\evil.png", "backslash"),
        ("cat//evil.png", "empty"),
        ("./evil.png", "'.'"),
        ("cat/ev\nil.png", "control"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(make_zip, refused, name: str, part: str) -> None:
    for load in (load_image_folder, load_npz):
        with refused(DataError, ascii(name)[1:-1], part):
            load(make_zip({name: b""}))


def test_a_nul_cannot_hide_the_rest_of_a_name(make_zip, refused) -> None:
    path = make_zip({"cat/a_.exe": b""})
    path.write_bytes(path.read_bytes().replace(b"cat/a_", b"cat/a\0"))
    with refused(DataError, "cat/a\\x00.exe", "control"), open_zip(path, Limits(), ""):
        pass


@pytest.mark.parametrize(("kind", "part"), [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "special file")])
def test_links_and_special_files_are_refused(tmp_path: Path, refused, kind: int, part: str) -> None:
    info = zipfile.ZipInfo("cat/link.png")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with refused(DataError, "cat/link.png", part):
        load_image_folder(tmp_path / "a.zip")


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> Path:
    """The file with some bytes of its first header of a kind replaced."""
    data = bytearray(path.read_bytes())
    at = data.index(signature) + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


def test_encrypted_and_exotic_members_are_refused(make_zip, refused) -> None:
    with refused(DataError, "a.png", "password"):
        load_image_folder(patched(make_zip({"a.png": b"x"}), CENTRAL, 8, b"\x01\x00"))
    with refused(DataError, "a.png", "zip method 14"):
        load_image_folder(patched(make_zip({"a.png": b"x"}), CENTRAL, 10, b"\x0e\x00"))


def test_a_member_given_twice_is_refused(tmp_path: Path, refused) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("cat/a.png", b"1")
        archive.writestr("cat/a.png", b"2")
    with refused(DataError, "cat/a.png", "twice"):
        load_image_folder(tmp_path / "a.zip")


def test_too_many_members_or_bytes_are_refused(make_zip, refused) -> None:
    path = make_zip({f"cat/{i}.png": bytes(100) for i in range(9)})
    with refused(TooLarge, "path", "9 members"):
        load_image_folder(path, limits=Limits(max_members=8))
    with refused(TooLarge, "cat/0.png", "unpacks to 900"):
        load_image_folder(path, limits=Limits(max_bytes=899))


def test_a_bomb_is_refused_by_its_ratio(make_zip, picture, refused) -> None:
    members = {f"{name}/{i}.png": picture(i) for name in ("cat", "dog") for i in range(2)}
    with refused(TooLarge, "cat/0.png", "zip bomb"):
        load_image_folder(make_zip(members | {"cat/0.png": bytes(4 * 2**20)}))
    with refused(TooLarge, "cat/0.png", "one file may have"):
        load_image_folder(make_zip(members | {"cat/0.png": bytes(4 * 2**20)}), limits=Limits(max_file_bytes=2**20))


@pytest.mark.parametrize("declared", [10, 60_000])
def test_a_member_that_lies_about_its_size_is_refused(make_zip, refused, declared: int) -> None:
    path = patched(make_zip({"a.png": bytes(50_000)}), CENTRAL, 24, struct.pack("<I", declared))
    with open_zip(path, Limits(), "") as archive, refused(DataError, "a.png", "archive"):
        read_member(archive, archive.infolist()[0])


def test_a_size_no_packing_could_reach_is_refused(make_zip, refused) -> None:
    path = patched(make_zip({"a.png": b"x"}), CENTRAL, 24, struct.pack("<I", 4_000_000_000))
    with refused(DataError, "a.png", "forged"):
        load_image_folder(path)


def test_a_cut_off_archive_is_refused(make_zip, refused) -> None:
    path = make_zip({"cat/a.png": bytes(range(256)) * 9})
    path.write_bytes(path.read_bytes()[:-30])
    with refused(DataError, "path", "cut short"):
        load_image_folder(path)


def test_a_member_damaged_inside_is_refused(make_zip, refused) -> None:
    path = patched(make_zip({"cat/a.png": bytes(range(256)) * 9}), LOCAL, 45, b"\xff\xff\xff\xff")
    with open_zip(path, Limits(), "") as archive, refused(DataError, "cat/a.png", "damaged"):
        read_member(archive, archive.infolist()[0])


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    """Though the directory, which is read first, lies at the end."""
    path, told = tmp_path / "a.zip", list[float]()
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(200):
            archive.writestr(f"{i}.bin", bytes([i]) * 5000)
    with listening(told.append), open_zip(path, Limits(), "") as opened:
        for info in opened.infolist()[:100]:
            read_member(opened, info)
        half = told[-1]
        for info in opened.infolist()[100:]:
            read_member(opened, info)
    assert told == sorted(told)
    assert 0.4 < half < 0.6
    assert told[-1] > 0.9
