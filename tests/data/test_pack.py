"""Folders as one file: the same bytes for the same images, and the same data set on the other side."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archsearch.data.pack import pack
from archsearch.domains.images import load_image_folder
from archsearch.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / ".hidden").write_text("x")
    return tmp_path / "photos"


def test_a_packed_folder_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    assert load_image_folder(pack(folder, tmp_path / "a.zip")).sha256 == load_image_folder(folder).sha256


def test_the_same_images_are_the_same_bytes_whenever_they_were_copied(folder: Path, tmp_path: Path) -> None:
    first = pack(folder, tmp_path / "a.zip").read_bytes()
    os.utime(folder / "cat" / "0.png", (0, 0))
    assert pack(folder, tmp_path / "b.zip").read_bytes() == first


def test_an_empty_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        pack(tmp_path / "empty", tmp_path / "a.zip")


def test_of_a_teachers_folder_the_named_files_are_packed_wherever_links_lead(tmp_path: Path) -> None:
    """As the hub's client keeps what it fetched: names that are links to blobs elsewhere."""
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(tmp_path / "blob")
    (tmp_path / "snapshot" / "optimizer.pt").write_bytes(b"x")
    path = pack(tmp_path / "snapshot", tmp_path / "a.zip", ("config.json", "model.safetensors"))
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"model.safetensors": b"weights"}


def test_a_file_that_cannot_be_read_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("archsearch.data.pack.shutil.copyfileobj", refuse)
    with pytest.raises(DataError, match="Permission denied") as caught:
        pack(folder, tmp_path / "a.zip")
    assert caught.value.field == "cat/0.png"
