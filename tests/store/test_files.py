from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from archsearch.errors import Conflict, InvalidRequest, TooLarge
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


def test_parts_are_joined_in_the_order_of_their_numbers(files: Files) -> None:
    contents = [bytes([number]) * 3 for number in range(1, 13)]
    put(files, *contents)
    whole = b"".join(contents)
    sha256 = hashlib.sha256(whole).hexdigest()
    assert files.complete_upload("up_1", sha256.upper(), limit=36) == (36, sha256)
    assert files.upload("up_1").read_bytes() == whole
    assert not (files.upload("up_1").parent / "parts").exists()


def test_a_part_about_to_be_replaced_does_not_count(files: Files) -> None:
    put(files, b"aaa", b"bb")
    assert [files.uploaded_bytes("up_1", without=n) for n in (None, 1, 2, 3)] == [5, 2, 3, 5]
    assert files.uploaded_bytes("up_2") == 0


def test_a_part_that_is_still_arriving_is_no_part(files: Files) -> None:
    put(files, b"aaa")
    files.part("up_1", 2).with_suffix(".req_123").write_bytes(b"half")
    assert files.uploaded_bytes("up_1") == 3
    assert files.complete_upload("up_1", None, limit=10)[0] == 3


def test_what_does_not_fit_together_is_refused_and_can_be_repaired(files: Files) -> None:
    with pytest.raises(Conflict, match="no part has arrived"):
        files.complete_upload("up_1", None, limit=10)
    files.part("up_1", 3).write_bytes(b"c")
    with pytest.raises(Conflict, match=r"parts are missing: 1, 2$"):
        files.complete_upload("up_1", None, limit=10)
    put(files, b"a", b"b")
    with pytest.raises(TooLarge, match="3 bytes are more than the 2"):
        files.complete_upload("up_1", None, limit=2)
    with pytest.raises(InvalidRequest, match="not the one given") as caught:
        files.complete_upload("up_1", "0" * 64, limit=10)
    assert caught.value.field == "sha256"
    assert not files.upload("up_1").exists()
    assert files.complete_upload("up_1", None, limit=10)[0] == 3
    with pytest.raises(Conflict, match="no part has arrived"):
        files.complete_upload("up_1", None, limit=10)
    assert files.upload("up_1").read_bytes() == b"abc"


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdefg")
    assert list(chunks(path, 3)) == [b"abc", b"def", b"g"]
    assert sha256_of(path) == hashlib.sha256(b"abcdefg").hexdigest()
    path.write_bytes(b"")
    assert (list(chunks(path)), sha256_of(path)) == ([], hashlib.sha256().hexdigest())
