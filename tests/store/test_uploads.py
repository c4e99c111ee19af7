from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from archsearch.errors import ArchsearchError, Conflict, InvalidRequest, NotFound, TooLarge
from archsearch.store import uploads
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Upload

ROOT = Path(__file__).parents[2]
MOST = 10_000

# Ends the process at the n-th move, removal or commit of a completion, as a power cut would.
COMPLETE = """
import os, shutil, signal, sys
from pathlib import Path
import archsearch.store.uploads as uploads
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
left = int(sys.argv[3])
def counted(function):
    def run(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return run
os.replace, shutil.rmtree, os.fsync = counted(os.replace), counted(shutil.rmtree), counted(os.fsync)
uploads._record = counted(uploads._record)
sessions = session_factory(connect(sys.argv[1]))
uploads.complete(sessions.begin, Files(Path(sys.argv[2])), "up_1", None, most=10_000)
"""


class Place:
    """Uploads in a database and a folder, driven without HTTP."""

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = connect(url)
        upgrade(self.engine, folder / "lock")
        self.url = url
        self.sessions: sessionmaker[Session] = session_factory(self.engine)
        self.files = Files(folder / "data")

    def open(self, id: str, size_bytes: int | None = None) -> None:
        with self.sessions.begin() as session:
            session.add(Upload(id=id, status="open", size_bytes=size_bytes))

    def put(self, id: str, number: int, content: bytes) -> None:
        arriving = self.files.part(id, number).with_suffix(f".{random.randbytes(6).hex()}")
        arriving.write_bytes(content)
        try:
            uploads.keep_part(self.sessions, self.files, id, number, arriving, most=MOST)
        finally:
            arriving.unlink(missing_ok=True)

    def complete(self, id: str, sha256: str | None = None, most: int = MOST) -> Upload:
        return uploads.complete(self.sessions.begin, self.files, id, sha256, most=most)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(f"sqlite:///{tmp_path / 'a.db'}", tmp_path)
    yield place
    place.engine.dispose()


def test_parts_are_joined_in_the_order_of_their_numbers(place: Place) -> None:
    place.open("up_1")
    contents = [bytes([number]) * 3 for number in range(1, 13)]
    for number in random.Random(0).sample(range(12), 12):
        place.put("up_1", number + 1, contents[number])
    whole = b"".join(contents)
    sha256 = hashlib.sha256(whole).hexdigest()
    found = place.complete("up_1", sha256.upper())
    assert (found.status, found.size_bytes, found.sha256) == ("complete", 36, sha256)
    assert place.files.upload("up_1").read_bytes() == whole
    assert not place.files.upload_parts("up_1").exists()


def test_what_does_not_fit_together_is_refused_and_can_be_repaired(place: Place) -> None:
    place.open("up_1", size_bytes=3)
    with pytest.raises(Conflict, match="no part has arrived"):
        place.complete("up_1")
    place.put("up_1", 3, b"c")
    with pytest.raises(Conflict, match=r"parts are missing: 1, 2$"):
        place.complete("up_1")
    place.put("up_1", 1, b"a")
    with pytest.raises(Conflict, match="parts are missing: 2"):
        place.complete("up_1")
    place.put("up_1", 2, b"b")
    with pytest.raises(TooLarge, match="3 bytes are more than the 2"):
        place.complete("up_1", most=2)
    with pytest.raises(InvalidRequest, match="not the one given") as caught:
        place.complete("up_1", "0" * 64)
    assert caught.value.field == "sha256"
    assert not place.files.upload("up_1").exists()
    assert place.complete("up_1").size_bytes == 3


def test_declared_sizes_hold(place: Place) -> None:
    place.open("up_1", size_bytes=10)
    place.put("up_1", 1, b"123456")
    with pytest.raises(Conflict, match="6 bytes have arrived and 10 were declared") as caught:
        place.complete("up_1")
    assert caught.value.field == "size_bytes"
    with pytest.raises(TooLarge, match=r"part 2 has more than 4 bytes.*10 bytes were declared"):
        place.put("up_1", 2, b"12345")
    place.put("up_1", 2, b"1234")
    assert place.complete("up_1").size_bytes == 10


def test_asked_again_the_answer_is_the_same(place: Place) -> None:
    place.open("up_1")
    place.put("up_1", 1, b"abc")
    first = place.complete("up_1")
    again = place.complete("up_1", first.sha256)
    assert (again.status, again.sha256, again.size_bytes) == (first.status, first.sha256, first.size_bytes)
    with pytest.raises(InvalidRequest, match="not the one given"):
        place.complete("up_1", "0" * 64)
    with pytest.raises(Conflict, match="is complete"):
        place.put("up_1", 2, b"d")
    with pytest.raises(NotFound):
        place.complete("up_2")
    assert not (place.files.root / "uploads" / "up_2").exists()


@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
def test_a_part_that_races_completion_is_in_the_content_or_refused(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from .conftest import empty_database

    request.param = url
    place = Place(empty_database(request, tmp_path), tmp_path)
    rng = random.Random(0)
    for round in range(25):
        _race(place, f"up_{round}", rng)
    place.engine.dispose()


def _race(place: Place, id: str, rng: random.Random) -> None:
    """Three parts are there; the second is sent anew and a fourth arrives while two requests complete the upload."""
    place.open(id)
    for number in (1, 2, 3):
        place.put(id, number, b"%d" % number * 50)
    start = threading.Barrier(4)

    def at_once(action: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return action() or True
        except ArchsearchError as error:
            return error

    actions: list[Callable[[], Any]] = [
        lambda: place.put(id, 2, b"x" * 50),
        lambda: place.put(id, 4, b"4" * 50),
        lambda: place.complete(id),
        lambda: place.complete(id),
    ]
    order = rng.sample(range(4), 4)
    with ThreadPoolExecutor(4) as pool:
        running = {number: pool.submit(at_once, actions[number]) for number in order}
        second, fourth, *completions = (running[number].result() for number in range(4))
    assert all(isinstance(error, Conflict) for error in (second, fourth) if error is not True)
    done = [upload for upload in completions if isinstance(upload, Upload)]
    assert len(done) == 2, completions
    content = place.files.upload(id).read_bytes()
    wanted = b"1" * 50 + (b"x" if second is True else b"2") * 50 + b"3" * 50 + (b"4" * 50 if fourth is True else b"")
    assert content == wanted
    assert {upload.sha256 for upload in done} == {hashlib.sha256(wanted).hexdigest()}


@pytest.mark.slow
def test_completion_goes_on_whenever_its_process_was_killed(place: Place) -> None:
    content = b"a" * 50 + b"b" * 50
    for moment in range(1, 7):
        place.open("up_1")
        place.put("up_1", 1, content[:50])
        place.put("up_1", 2, content[50:])
        command = [sys.executable, "-c", COMPLETE, place.url, str(place.files.root), str(moment)]
        ended = subprocess.run(command, cwd=ROOT, check=False).returncode
        # Both fsyncs, the move between them, the commit, the removal of the parts; there is no sixth thing.
        assert ended == (0 if moment == 6 else -signal.SIGKILL), moment
        found = place.complete("up_1")
        assert (found.status, place.files.upload("up_1").read_bytes()) == ("complete", content), moment
        assert not place.files.upload_parts("up_1").exists()
        with place.sessions.begin() as session:
            session.delete(session.get_one(Upload, "up_1"))
        shutil.rmtree(place.files.upload("up_1").parent)


def test_a_part_is_on_the_disk_before_it_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, moved = set[int](), list[tuple[str, bool]]()
    fsync, replace = os.fsync, os.replace

    def note(opened: int) -> None:
        fsync(opened)
        synced.add(os.fstat(opened).st_ino)

    def move(source: Path, target: Path) -> None:
        moved.append((target.name, source.stat().st_ino in synced))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", move)
    place.open("up_1")
    place.put("up_1", 1, b"abc")
    place.complete("up_1")
    assert moved == [("000001", True), ("content", True)]
    assert {path.stat().st_ino for path in (place.files.upload("up_1").parent,)} <= synced


def test_a_part_that_arrives_after_its_upload_was_deleted_leaves_nothing(place: Place) -> None:
    folder = place.files.upload("up_1").parent
    with pytest.raises(NotFound):
        place.put("up_1", 1, b"late")
    assert not folder.exists()
    arriving = place.files.part("up_1", 2).with_suffix(".cut")
    arriving.write_bytes(b"cut sh")
    uploads.drop_part(place.sessions, place.files, "up_1", arriving)
    assert not folder.exists()
    with pytest.raises(NotFound), uploads.held(place.files, "up_1", alone=True):
        raise NotFound("as another request has deleted it while this one waited")
    assert not folder.exists()
    place.open("up_1")
    place.put("up_1", 1, b"kept")
    arriving.write_bytes(b"cut sh")
    uploads.drop_part(place.sessions, place.files, "up_1", arriving)
    assert [part.name for part in place.files.upload_parts("up_1").iterdir()] == ["000001"]


def test_the_same_content_is_found_by_its_hash(place: Place) -> None:
    place.open("up_1")
    place.put("up_1", 1, b"abc")
    sha256 = str(place.complete("up_1").sha256)
    place.open("up_2")
    with place.sessions.begin() as session:
        same = [uploads.same_content(session, place.files, *asked) for asked in ((sha256.upper(), 3), (sha256, None))]
        assert [upload.id for upload in same if upload] == ["up_1", "up_1"]
        for asked in ((sha256, 4), ("0" * 64, 3), (None, 3)):
            assert uploads.same_content(session, place.files, *asked) is None
        os.unlink(place.files.upload("up_1"))
        assert uploads.same_content(session, place.files, sha256, 3) is None
