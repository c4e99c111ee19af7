from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from archsearch.store.files import Files, chunks, sha256_of


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "data")


def put(files: Files, *contents: bytes) -> None:
    for number, content in enumerate(contents, 1):
        files.part("up_1", number).write_bytes(content)


def test_the_folder_is_made_with_its_rooms_and_opened_again(files: Files) -> None:
    put(files, b"x")
    again = Files(files.root)
    assert again.uploaded_bytes("up_1") == 1
    assert sorted(path.name for path in files.root.iterdir()) == ["datasets", "jobs", "uploads", "workers"]


def test_a_relative_folder_stays_the_same_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = Files(Path("data"))
    monkeypatch.chdir("/")
    assert files.job("job_1") == (tmp_path / "data/jobs/job_1").resolve()


def test_paths_in_rows_are_relative_so_that_the_folder_can_move(files: Files, tmp_path: Path) -> None:
    kept = files.relative(files.job("job_1") / "student")
    assert kept == "jobs/job_1/student"
    assert Files(tmp_path / "elsewhere").artifact(kept) == (tmp_path / "elsewhere/jobs/job_1/student").resolve()
    with pytest.raises(ValueError, match="subpath"):
        files.relative(tmp_path)


def test_a_part_about_to_be_replaced_does_not_count(files: Files) -> None:
    put(files, b"aaa", b"bb")
    assert [files.uploaded_bytes("up_1", without=n) for n in (None, 1, 2, 3)] == [5, 2, 3, 5]
    assert files.uploaded_bytes("up_2") == 0


def test_a_part_that_is_still_arriving_is_no_part(files: Files) -> None:
    put(files, b"aaa")
    files.part("up_1", 2).with_suffix(".req_123").write_bytes(b"half")
    assert files.uploaded_bytes("up_1") == 3
    assert [path.name for path in files.upload_part_list("up_1")] == ["000001"]


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdefg")
    assert list(chunks(path, 3)) == [b"abc", b"def", b"g"]
    assert sha256_of(path) == hashlib.sha256(b"abcdefg").hexdigest()
    path.write_bytes(b"")
    assert (list(chunks(path)), sha256_of(path)) == ([], hashlib.sha256().hexdigest())
