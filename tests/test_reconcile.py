"""Rows that are unfinished have a workflow that will finish them, whatever became of the one they had."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from archsearch import locks
from archsearch.engine import EngineClient
from archsearch.reconcile import Reconciler
from archsearch.store.database import connect, session_factory
from archsearch.store.migrate import upgrade
from archsearch.store.models import Job, TeacherRow, now


class House:
    """A database without a worker, and what looks after it."""

    def __init__(self, folder: Path) -> None:
        self.database = connect(f"sqlite:///{folder / 'a.db'}")
        upgrade(self.database, folder / "lock")
        self.client = EngineClient(self.database)
        self.client.prepare()
        self.sessions = session_factory(self.database)
        self.workers = folder / "workers"
        self.look = Reconciler(self.sessions, self.client, self.workers, {"job", "teacher", "dataset", "profile"})

    def add_job(self, status: str, *, enqueued: bool = False) -> None:
        with self.sessions.begin() as session:
            session.add(Job(id="job_1", kind="search", request={}, status=status))
            if enqueued:
                self.client.enqueue(session, "job", "job_1", "job_1")

    def starts(self, id: str) -> dict[str, str | None]:
        with self.sessions() as session:
            return self.client.owners(session, id)

    def make(self, start: str, status: str, owner: str) -> None:
        """As a worker would have left it."""
        with self.database.begin() as connection:
            left = "UPDATE workflow_status SET status = :status, executor_id = :owner WHERE workflow_uuid = :start"
            connection.execute(sa.text(left), {"status": status, "owner": owner, "start": start})

    def close(self) -> None:
        self.client.close()
        self.database.dispose()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.mark.parametrize(
    ("status", "ended"),
    [("queued", None), ("running", "ERROR"), ("running", "SUCCESS"), ("cancelling", "CANCELLED")],
)
def test_a_job_whose_workflow_ended_or_is_gone_is_taken_up_again_once(
    house: House, status: str, ended: str | None
) -> None:
    house.add_job(status, enqueued=ended is not None)
    if ended is not None:
        house.make("job_1", ended, "worker-1")
    house.look()
    assert house.starts("job_1") == {"job_1:1": None}
    house.look()
    assert house.starts("job_1") == {"job_1:1": None}
    house.make("job_1:1", "ERROR", "worker-1")
    house.look()
    assert house.starts("job_1") == {"job_1:2": None}


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_job_that_is_over_is_left_alone(house: House, status: str) -> None:
    house.add_job(status)
    house.look()
    assert house.starts("job_1") == {}


def test_a_job_that_waits_its_turn_is_left_alone(house: House) -> None:
    house.add_job("queued", enqueued=True)
    house.look()
    assert house.starts("job_1") == {"job_1": None}


def test_a_check_that_was_lost_is_made_again_in_its_lane(house: House) -> None:
    with house.sessions.begin() as session:
        session.add(TeacherRow(id="tch_1", source={}))
        session.add(TeacherRow(id="tch_2", source={}, status="ready"))
    house.look()
    assert (house.starts("tch_1"), house.starts("tch_2")) == ({"tch_1:1": None}, {})
    with house.database.connect() as connection:
        queue = connection.execute(sa.text("SELECT queue_name FROM workflow_status")).scalar()
    assert queue == "checks"


def test_a_job_that_stands_still_is_freed_unless_its_worker_lives(house: House) -> None:
    house.add_job("running", enqueued=True)
    house.make("job_1", "PENDING", "elsewhere")
    with house.sessions.begin() as session:
        session.execute(sa.update(Job).values(heartbeat_at=now() - timedelta(minutes=6)))
    lock = locks.take(house.workers / "elsewhere.lock")
    assert lock is not None
    for _ in range(3):
        house.look()
    assert house.starts("job_1") == {"job_1": "elsewhere"}
    assert house.client.status("job_1") == "PENDING"
    locks.release(lock)
    (house.workers / "elsewhere.lock").unlink()
    house.look()
    assert house.client.status("job_1") == "ENQUEUED"


def test_a_heart_that_is_seen_to_beat_is_alive(house: House) -> None:
    house.add_job("running", enqueued=True)
    house.make("job_1", "PENDING", "elsewhere")
    for minutes in (9, 8, 7):
        with house.sessions.begin() as session:
            session.execute(sa.update(Job).values(heartbeat_at=now() - timedelta(minutes=minutes)))
        house.look()
    assert house.client.status("job_1") == "PENDING"
