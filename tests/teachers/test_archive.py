"""Zips of teachers' folders, unpacked by nobody but us."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from archsearch import domains
from archsearch.errors import ArchsearchError, Gone, TeacherError, TooLarge
from archsearch.teachers.archive import describe_archive, to_send, unpack_archive
from tests.api.test_text_teachers import CONFIG, FILES, WEIGHTS, folder, zipped


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_only_a_teachers_files_are_unpacked_and_lie_there_whole(tmp_path: Path) -> None:
    more = {"modeling_mine.py": b"import os", "pytorch_model.bin": b"\x80", "deep/config.json": b"{}", ".env": b"x"}
    path = write(tmp_path / "zip", folder("mine/", {**FILES, **more, "vocab.txt": b"a\n"}))
    unpack_archive(path, tmp_path / "folder")
    unpack_archive(path, tmp_path / "folder")  # again, by whoever comes next
    found = {each.name: each.read_bytes() for each in (tmp_path / "folder").iterdir()}
    assert found == {"config.json": json.dumps(CONFIG).encode(), **FILES, "vocab.txt": b"a\n"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "zip"]


def packed(**changes: Any) -> bytes:
    files = {"config.json": b"{}", "model.safetensors": b"\0" * 2**21, **changes}
    return zipped(files, packing=zipfile.ZIP_DEFLATED)


def flipped(content: bytes) -> bytes:
    at = content.index(WEIGHTS)
    return content[:at] + b"\xff" + content[at + 1 :]


@pytest.mark.parametrize(
    ("content", "kind", "part"),
    [
        (packed(), TooLarge, "as in a zip bomb"),
        (folder(files={**FILES, "tokenizer.json": b"0" * (64 * 2**20 + 1)}), TooLarge, "at most 67,108,864 are read"),
        (flipped(folder()), TeacherError, "model.safetensors: cannot be unpacked (Bad CRC-32"),
    ],
    ids=["bomb", "large", "damaged"],
)
def test_what_does_not_unpack_leaves_nothing(
    tmp_path: Path, content: bytes, kind: type[ArchsearchError], part: str
) -> None:
    path = write(tmp_path / "zip", content)
    with pytest.raises(kind) as caught:
        unpack_archive(path, tmp_path / "folder")
    assert (caught.value.field, part in caught.value.detail) == ("upload", True), caught.value
    assert [each.name for each in tmp_path.iterdir()] == ["zip"]


def test_a_zip_that_is_gone_is_to_be_sent_again(tmp_path: Path) -> None:
    with pytest.raises(Gone, match="upload it again"):
        describe_archive(tmp_path / "zip", field="x")
    with pytest.raises(Gone, match="upload it again"):
        unpack_archive(tmp_path / "zip", tmp_path / "folder")


def test_a_folder_of_timms_tells_of_images(teacher_folder: Path, tmp_path: Path) -> None:
    names = ("config.json", "model.safetensors")
    path = write(tmp_path / "zip", zipped({name: (teacher_folder / name).read_bytes() for name in names}))
    told = describe_archive(path, field="x")
    assert (told["domain"], told["num_classes"], told["in_chans"]) == ("image_classification", 10, 1)


def test_what_is_sent_of_a_local_folder_is_told_before_it_is_sent(teacher_folder: Path, tmp_path: Path) -> None:
    described, sent = to_send(teacher_folder)
    assert (described["num_classes"], sent) == (10, teacher_folder / "model.safetensors")
    for name, content in FILES.items():
        write(tmp_path / name, content)
    write(tmp_path / "config.json", json.dumps(CONFIG).encode())
    assert to_send(tmp_path) == ({}, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(TeacherError, match=r"has no tokenizer\.json"):
        to_send(tmp_path)


def test_files_of_every_domain_are_taken() -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"} <= domains.teacher_files()
    assert not any(name.endswith((".bin", ".py", ".pt", ".pkl")) for name in domains.teacher_files())


def test_a_zip_is_told_of_without_torch_and_transformers(tmp_path: Path) -> None:
    path = write(tmp_path / "zip", folder())
    code = (
        "import sys; from pathlib import Path; from archsearch.teachers.archive import describe_archive; "
        f"print(describe_archive(Path({str(path)!r}), field='x')['architecture'], "
        "*({'torch', 'transformers', 'tokenizers', 'timm'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert run.stdout.split() == ["bert"]
