"""What an attempt writes is kept however long the database is away, and what can be retried is not cleared away."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from archsearch.engine import StartAgain
from archsearch.errors import ArchsearchError, Cancelled, TrainingError
from archsearch.ledger import rows
from archsearch.ledger.rows import RowLedger, Superseded
from archsearch.ledger.student import StudentLedger
from archsearch.store import queries
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Job
from tests.test_verify import trial


class House:
    """A database with one running job, and the ledger of its first attempt."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.db"
        self.database = connect(f"sqlite:///{self.path}")
        upgrade(self.database, folder / "lock")
        # A connection waits half a minute for a lock; what comes after that is what is looked at here.
        sa.event.listen(self.database, "connect", impatient)
        self.database.dispose()
        self.sessions = session_factory(self.database)
        self.files = Files(folder)
        with self.sessions.begin() as session:
            session.add(Job(id="job_1", kind="search", request={}, status="running", attempt=1))
        self.ledger = self.attempt(1)

    def attempt(self, number: int) -> RowLedger:
        return RowLedger(self.sessions, self.files, "job_1", number)

    def job(self) -> Job:
        with self.sessions() as session:
            return session.get_one(Job, "job_1")

    def change(self, **values: object) -> None:
        with self.sessions.begin() as session:
            session.execute(sa.update(Job).values(**values))

    def events(self) -> list[str]:
        with self.sessions() as session:
            return [event.type for event in queries.events_after(session, "job_1", 0)]

    def locked(self, during: Callable[[], None]) -> None:
        """Do something while another process's transaction holds the database, for most of a second."""
        with closing(sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN EXCLUSIVE")
            free = threading.Timer(0.7, lambda: other.execute("ROLLBACK"))
            free.start()
            began = time.monotonic()
            during()
            free.join()
            assert time.monotonic() - began > 0.6


def impatient(connection: DBAPIConnection, _: object) -> None:
    connection.cursor().execute("PRAGMA busy_timeout=20")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.database.dispose()


@pytest.mark.slow
def test_whatever_is_written_waits_for_a_locked_database(house: House) -> None:
    house.locked(lambda: house.ledger.report({"phase": "searching", "progress": 0.1}))
    house.locked(lambda: house.ledger.add(trial(0, 1.0), {"phase": "searching", "progress": 0.5}))
    house.locked(lambda: house.ledger.warn("slow", "it is"))
    assert [found.number for found in house.ledger.trials()] == [0]
    assert house.events()[:2] == ["phase", "progress"]
    assert house.events()[-1] == "warning"
    house.locked(lambda: house.ledger.succeed({"search": {}}))
    assert (house.job().status, house.events()[-1]) == ("succeeded", "done")


def test_an_end_waits_too(house: House) -> None:
    def fail() -> None:
        with house.ledger.outcome():
            raise TrainingError("it diverged")

    house.locked(fail)
    assert (house.job().status, (house.job().error or {})["code"]) == ("failed", "training_failed")


def test_what_may_have_been_committed_is_not_written_twice(house: House) -> None:
    for _ in range(2):
        house.ledger.add(trial(0, 1.0), {"phase": "searching"})
        house.ledger.warn("slow", "it is")
    for _ in range(2):
        house.ledger.succeed({})
    assert len(house.ledger.trials()) == 1
    assert (house.events().count("warning"), house.events().count("done")) == (1, 1)


def test_of_several_students_each_is_told_of_by_itself(house: House) -> None:
    one, other = (StudentLedger(house.ledger, number, 2, house.ledger.folder) for number in (1, 2))
    for ledger in (one, other, other):
        ledger.warn("degraded", "it is worse")
        ledger.report({"phase": "distilling", "progress": 0.5})
    assert [(w["student"], w["detail"]) for w in house.ledger.warnings()] == [
        (1, "student 1: it is worse"),
        (2, "student 2: it is worse"),
    ]
    assert [w["student"] for w in other.warnings()] == [2]
    assert house.events().count("phase") == 2
    assert one.seconds("distilling") >= other.seconds("distilling") >= 0


def test_of_several_students_each_has_its_share_of_the_progress(house: House) -> None:
    told: list[dict[str, object]] = []
    second = StudentLedger(house.ledger, 2, 4, house.ledger.folder, before=0.25, share=0.25)
    house.ledger.report = told.append  # type: ignore[method-assign]
    second.report({"phase": "distilling", "progress": 0.5, "eta_s": 10.0})
    second.report({"phase": "searching", "progress": 0.5, "eta_s": 10.0})
    assert (told[0]["progress"], told[0]["student"], told[0]["students"]) == (0.375, 2, 4)
    assert told[0]["eta_s"] == pytest.approx(10 + 2 * 10, abs=0.1), "its own, and twice as much as it takes in all"
    assert (told[1]["progress"], told[1]["eta_s"]) == (0.5, 10.0), "candidates are counted together"


def test_a_report_that_cannot_be_kept_ends_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with house.ledger.outcome():
        house.ledger.report({"phase": "searching", "progress": 0.1, "what": object()})
        house.ledger.report({"phase": "searching", "progress": 0.2})
    assert house.job().status == "running"
    assert house.events() == ["phase", "progress"]
    assert "a report could not be kept" in caplog.text


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_only_success_clears_what_a_retry_goes_on_from(house: House, status: str) -> None:
    kept = house.ledger.folder / "checkpoints" / "student-0.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    with house.ledger.outcome():
        raise TrainingError("no") if status == "failed" else Cancelled("on request")
    assert house.job().status == status
    assert kept.exists()
    house.change(status="running", attempt=2)
    house.attempt(2).succeed({})
    assert not kept.exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        sa.exc.TimeoutError("QueuePool limit reached"),
        sa.exc.OperationalError("SELECT", {}, sqlite3.OperationalError(), connection_invalidated=True),
    ],
)
def test_what_passes_by_itself_is_no_end(house: House, error: Exception) -> None:
    with pytest.raises(StartAgain), house.ledger.outcome():
        raise error
    assert house.job().status == "running"
    assert house.events() == []


def test_a_phase_on_a_full_disk_says_so_and_is_gone_through_again(house: House) -> None:
    told: list[str | None] = []

    def phase() -> str:
        told.append(house.job().waiting)
        if len(told) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        house.ledger.report({"phase": "distilling"})
        return "done"

    assert house.ledger.lasting(phase) == "done"
    assert told == [None, "the disk is full", "the disk is full"]
    assert house.job().waiting is None
    assert house.events() == ["waiting", "phase"]


def test_waiting_for_room_ends_when_the_job_is_cancelled(house: House) -> None:
    def phase() -> None:
        house.change(status="cancelling")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with house.ledger.outcome():
        house.ledger.lasting(phase)
    assert house.job().status == "cancelled"


def test_an_attempt_that_was_superseded_or_is_over_writes_nothing(house: House) -> None:
    house.change(attempt=2)
    with pytest.raises(Superseded):
        house.ledger.report({"phase": "searching"})
    with house.ledger.outcome():
        raise ArchsearchError("its own end")
    assert house.job().status == "running"
    # Cancelled, and to be retried: whoever still thinks that it runs must not write into the next attempt.
    house.change(attempt=1, status="queued")
    with pytest.raises(Superseded):
        house.ledger.add(trial(0, 1.0), {"phase": "searching"})
    assert house.ledger.trials() == []


def test_a_heart_beats_while_a_step_says_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "HEARTBEAT_S", 0.02)
    with house.ledger.beating():
        deadline = time.monotonic() + 20
        seen = set()
        while len(seen) < 3:
            assert time.monotonic() < deadline
            seen.add(house.job().heartbeat_at)
