"""Rows that are unfinished have a workflow that will finish them, whatever became of the one they had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

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
        known, limits_s = {"job", "teacher", "dataset", "profile"}, {"teacher": 600.0, "dataset": 60.0}
        self.look = Reconciler(self.sessions, self.client, self.workers, known, limits_s)

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


def test_a_check_that_is_overdue_is_freed_unless_its_worker_lives(house: House) -> None:
    with house.sessions.begin() as session:
        session.add(TeacherRow(id="tch_1", source={}))
        house.client.enqueue(session, "teacher", "tch_1", "tch_1", lane="light")
    house.make("tch_1", "PENDING", "elsewhere")

    def look(minutes: float) -> str | None:
        with house.database.begin() as connection:
            begun = sa.text("UPDATE workflow_status SET started_at_epoch_ms = :at")
            connection.execute(begun, {"at": 1000 * (time.time() - 60 * minutes)})
        house.look()
        return house.client.status("tch_1")

    assert look(minutes=14) == "PENDING"
    lock = locks.take(house.workers / "elsewhere.lock")
    assert lock is not None
    assert look(minutes=16) == "PENDING"
    locks.release(lock)
    assert look(minutes=16) == "ENQUEUED"


def test_the_engine_forgets_what_was_deleted_and_nothing_else(house: House) -> None:
    with house.sessions.begin() as session:
        session.add(Job(id="job_1", kind="search", request={}, status="succeeded"))
        for id in ("job_1", "job_2", "job_3", "job_4"):
            house.client.enqueue(session, "job", id, id)
        house.client.enqueue(session, "job", "job_2:1", "job_2")
        house.client.enqueue(session, "teacher", "tch_1", "tch_1", lane="light")
    for start, status in {"job_1": "SUCCESS", "job_2": "ERROR", "job_2:1": "SUCCESS", "tch_1": "SUCCESS"}.items():
        house.make(start, status, "worker-1")
    house.make("job_4", "PENDING", "worker-1")
    house.look()
    with house.database.connect() as connection:
        left = connection.execute(sa.text("SELECT workflow_uuid FROM workflow_status ORDER BY 1")).scalars().all()
        inputs = connection.execute(sa.text("SELECT workflow_uuid FROM workflow_input ORDER BY 1")).scalars().all()
    assert (left, set(inputs) <= set(left)) == (["job_1", "job_3", "job_4"], True)


def test_looking_after_unfinished_rows_does_not_read_all_that_have_ended(house: House) -> None:
    house.add_job("queued", enqueued=True)
    statements: list[tuple[str, Any]] = []

    def executed(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "workflow_status" in statement:
            statements.append((statement, parameters))

    sa.event.listen(house.database, "before_cursor_execute", executed)
    with house.sessions() as session:
        assert house.client.owners(session, "job_1") == {"job_1": None}
    sa.event.remove(house.database, "before_cursor_execute", executed)
    with house.database.connect() as connection:
        plans = [
            step.detail
            for statement, parameters in statements
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN")]


def test_many_starts_of_a_workflow_are_all_known(house: House) -> None:
    house.add_job("failed", enqueued=True)
    for number in range(1, 45):
        house.make(f"job_1:{number - 1}" if number > 1 else "job_1", "ERROR", "worker-1")
        with house.sessions.begin() as session:
            assert house.client.enqueue_again(session, "job", "job_1", "job_1") == f"job_1:{number}"
    assert house.starts("job_1") == {"job_1:44": None}
