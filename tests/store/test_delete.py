from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select
from sqlalchemy.orm import Session, sessionmaker

from archsearch.errors import Conflict, NotFound
from archsearch.store import delete, queries, uploads
from archsearch.store.database import connect, session_factory, writing
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import (
    Artifact,
    Candidate,
    DatasetRow,
    Event,
    Job,
    Leftover,
    ProfileRow,
    TeacherRow,
    Upload,
)


class Kept:
    """A database and a folder with something of everything in them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = connect(url)
        upgrade(self.engine, folder / "lock")
        self.sessions: sessionmaker[Session] = session_factory(self.engine)
        self.files = Files(folder / "data")

    def add(self, *rows: Any) -> None:
        with self.sessions.begin() as session:
            for row in rows:
                session.add(row)
                session.flush()

    def count(self, table: type[Any]) -> int:
        with self.sessions() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def file(self, path: str) -> Path:
        target = self.files.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x" * 10)
        return target


@pytest.fixture
def kept(empty_url: str, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(empty_url, tmp_path)
    yield kept
    kept.engine.dispose()


def job(id: str = "job_1", status: str = "running", **request: Any) -> Job:
    return Job(id=id, kind="search", status=status, request=request)


def test_an_ended_job_goes_with_all_it_found(kept: Kept) -> None:
    kept.add(job())
    with kept.sessions.begin() as session, pytest.raises(Conflict, match=r"job_1 is running; POST .*:cancel"):
        delete.delete_job(session, "job_1")
    found = Candidate(
        job_id="job_1", number=0, space="s", architecture={}, architecture_key="k", params=1, macs=1, state="scored",
        proxies={}, votes={}, seconds=0.0, rung=0, rungs=[], attempt=1,
    )  # fmt: skip
    artifact = Artifact(
        id="art_1", job_id="job_1", name="a", media_type="b", size_bytes=1, sha256="c", path="jobs/job_1/a"
    )
    kept.add(found, artifact, Event(job_id="job_1", seq=1, type="done", data={}))
    path = kept.file("jobs/job_1/a")
    with kept.sessions.begin() as session:
        session.get_one(Job, "job_1").status = "succeeded"
        session.flush()
        delete.delete_job(session, "job_1")
    assert [kept.count(table) for table in (Job, Artifact)] == [0, 0]
    # A process that ends here has forgotten nothing: the files are noted, and whoever sweeps removes them.
    assert (path.exists(), kept.count(Leftover)) == (True, 1)
    assert delete.sweep(kept.sessions, kept.files) == 1
    assert (path.parent.exists(), kept.count(Leftover)) == (False, 0)
    assert [kept.count(table) for table in (Candidate, Event)] == [0, 0]
    with kept.sessions.begin() as session, pytest.raises(NotFound):
        delete.delete_job(session, "job_1")


def test_a_deletion_that_is_not_committed_leaves_everything(kept: Kept) -> None:
    kept.add(job(status="failed"))
    path = kept.file("jobs/job_1/a")
    with kept.sessions() as session:
        delete.delete_job(session, "job_1")
    assert (kept.count(Job), kept.count(Leftover), delete.sweep(kept.sessions, kept.files)) == (1, 0, 0)
    assert path.exists()


def test_what_a_job_needs_stays_until_it_has_ended(kept: Kept) -> None:
    named = {
        "teacher": {"kind": "teacher", "id": "tch_1"},
        "data": {"kind": "dataset", "id": "ds_1"},
        "budget": {"device": "prf_1"},
        "student": {"job": "job_0", "candidate": 3},
    }
    kept.add(
        Upload(id="up_1", status="complete"),
        TeacherRow(id="tch_1", source={"kind": "upload", "upload": "up_1"}, status="ready"),
        DatasetRow(id="ds_1", format="npz", status="ready", upload="up_1"),
        ProfileRow(id="prf_1", body={}, status="ready"),
        job("job_0", "succeeded"),
        job("job_1", "queued", **named),
        job("job_2", "failed", **named),
    )
    needed = [
        (delete.delete_teacher, "tch_1", "job_1 is queued and needs teacher tch_1"),
        (delete.delete_dataset, "ds_1", "job_1 is queued and needs data set ds_1"),
        (delete.delete_profile, "prf_1", "job_1 is queued and needs profile prf_1"),
        (delete.delete_job, "job_0", "job_1 is queued and distils candidate 3 of job_0"),
    ]
    for function, id, part in needed:
        with kept.sessions.begin() as session, pytest.raises(Conflict, match=part):
            function(session, id)
    with kept.sessions.begin() as session, pytest.raises(Conflict, match="teacher tch_1 needs upload up_1"):
        delete.delete_upload(session, "up_1")
    with kept.sessions.begin() as session:
        session.get_one(Job, "job_1").status = "cancelled"
    for function, id, _ in needed:
        with kept.sessions.begin() as session:
            function(session, id)
    assert delete.remove_upload(kept.sessions.begin, kept.files, "up_1")
    assert [kept.count(table) for table in (TeacherRow, DatasetRow, ProfileRow, Upload)] == [0, 0, 0, 0]


def test_what_a_check_reads_stays_until_its_end(kept: Kept) -> None:
    kept.add(
        Upload(id="up_1", status="complete"),
        DatasetRow(id="ds_1", format="npz", status="checking", upload="up_1"),
        DatasetRow(id="ds_2", format="npz", status="ready"),
        TeacherRow(id="tch_1", source={"kind": "timm"}, data={"kind": "dataset", "id": "ds_2"}, status="checking"),
    )
    with pytest.raises(Conflict, match="data set ds_1, which is being read, needs upload up_1"):
        delete.remove_upload(kept.sessions.begin, kept.files, "up_1")
    with kept.sessions.begin() as session, pytest.raises(Conflict, match="tch_1 is being measured on ds_2"):
        delete.delete_dataset(session, "ds_2")
    # The check itself may be deleted: that stops it.
    with kept.sessions.begin() as session:
        delete.delete_dataset(session, "ds_1")
        delete.delete_teacher(session, "tch_1")
        delete.delete_dataset(session, "ds_2")
    assert delete.remove_upload(kept.sessions.begin, kept.files, "up_1")


def test_a_job_and_the_deletion_of_what_it_names_never_both_succeed(kept: Kept) -> None:
    """On SQLite one writes at a time; on PostgreSQL the row is locked by whoever comes first."""
    for round in range(10):
        id = f"tch_{round}"
        kept.add(TeacherRow(id=id, source={"kind": "timm"}, status="ready"))
        start, done = threading.Barrier(2), []

        def submit(id: str = id, round: int = round, start: threading.Barrier = start, done: list[str] = done) -> None:
            with suppress(NotFound):
                with writing(kept.sessions) as session:
                    start.wait(10) if kept.engine.dialect.name == "postgresql" else None
                    queries.require(session, TeacherRow, id, lock="shared")
                    session.add(job(f"job_{round}", "queued", teacher={"id": id}))
                done.append("submitted")

        def remove(id: str = id, start: threading.Barrier = start, done: list[str] = done) -> None:
            with suppress(Conflict):
                with writing(kept.sessions) as session:
                    start.wait(10) if kept.engine.dialect.name == "postgresql" else None
                    delete.delete_teacher(session, id)
                done.append("deleted")

        threads = [threading.Thread(target=each) for each in (submit, remove)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 1, done


def test_an_upload_that_was_just_promised_to_somebody_is_not_pruned(kept: Kept) -> None:
    kept.add(Upload(id="up_1", status="complete", sha256="ab", size_bytes=10))
    kept.file("uploads/up_1/content")
    looked = threading.Event()

    def touched(upload: Upload) -> bool:
        looked.set()
        return upload.used_at is not None

    def prune() -> bool:
        return delete.remove_upload(lambda: writing(kept.sessions), kept.files, "up_1", unless=touched)

    with ThreadPoolExecutor(1) as pool:
        with writing(kept.sessions) as session:
            assert uploads.same_content(session, kept.files, "ab", 10) is not None
            pruned = pool.submit(prune)
            looked.wait(0.5)  # long enough for one that looks before it has the row to itself
        assert (pruned.result(30), kept.count(Upload)) == (False, 1)


def test_many_candidates_go_in_small_transactions_and_by_several_sweeps(kept: Kept) -> None:
    kept.add(job(status="succeeded"), job("job_2", "succeeded"))
    of_both = [{"job_id": id, "seq": seq, "type": "t", "data": {}} for id in ("job_1", "job_2") for seq in range(5000)]
    with kept.sessions.begin() as session:
        session.execute(insert(Event), of_both)
    deleted: list[int] = []

    def executed(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(("DELETE FROM jobs", "DELETE FROM events")):
            deleted.append(cursor.rowcount)

    event.listen(kept.engine, "after_cursor_execute", executed)
    with kept.sessions.begin() as session:
        delete.delete_job(session, "job_1")
    assert (delete.sweep(kept.sessions, kept.files, within_s=0), kept.count(Leftover)) == (0, 1)
    assert kept.count(Event) > 5000
    assert (delete.sweep(kept.sessions, kept.files), kept.count(Leftover)) == (1, 0)
    with kept.sessions() as session:
        left = session.scalars(select(Event.job_id).distinct()).all()
    assert (left, kept.count(Event), deleted) == (["job_2"], 5000, [1, 2000, 2000, 1000])
