from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from archsearch.errors import NotFound
from archsearch.store import queries
from archsearch.store.models import TERMINAL, Artifact, Candidate, Job, Upload

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(id: str = "job_1", status: str = "queued", created_at: datetime = NOON, **values: object) -> Job:
    return Job(id=id, kind="search", request={}, status=status, created_at=created_at, **values)


def candidate(number: int, score: float | None, params: int = 10, key: str | None = None, rung: int = 1) -> Candidate:
    return Candidate(
        job_id="job_1",
        number=number,
        space="vit",
        architecture={"n": number},
        architecture_key=key or str(number),
        params=params,
        macs=5 * 10**9,
        state="failed" if score is None else "scored",
        score=score,
        proxies={"snip": None},
        votes={},
        seconds=0.1,
        rung=0 if score is None else rung,
        rungs=[] if score is None else [score] * rung,
        attempt=1,
    )


def ids(rows: list[Job]) -> list[str]:
    return [row.id for row in rows]


def test_pages_show_every_row_once_newest_first_also_those_of_the_same_instant(session: Session) -> None:
    # Three at the same instant, and one written in another time zone.
    later = NOON.astimezone(timezone(timedelta(hours=-5))) + timedelta(microseconds=1)
    times = {"job_a": NOON, "job_b": NOON, "job_c": NOON, "job_d": later, "job_e": NOON - timedelta(days=1)}
    session.add_all(job(id, created_at=at) for id, at in times.items())
    session.flush()
    session.expire_all()
    found: list[str] = []
    after = None
    for _ in range(5):
        rows, after = queries.page(session, Job, after=after, limit=2)
        found += ids(rows)
        if after is None:
            break
    assert found == ["job_d", "job_c", "job_b", "job_a", "job_e"]


def test_the_last_page_says_so_even_when_it_is_full(session: Session) -> None:
    session.add_all(job(f"job_{i}") for i in range(4))
    session.flush()
    rows, after = queries.page(session, Job, limit=2)
    assert (len(rows), after) == (2, "job_2")
    rows, after = queries.page(session, Job, limit=2, after=after)
    assert (len(rows), after) == (2, None)


def test_pages_hold_only_what_was_asked_for(session: Session) -> None:
    session.add_all([job("job_1"), job("job_2", "failed"), job("job_3")])
    session.flush()
    assert ids(queries.page(session, Job, status="queued", kind=None)[0]) == ["job_3", "job_1"]
    assert queries.page(session, Job, status="queued", kind="distill") == ([], None)
    with pytest.raises(NotFound, match="no job 'job_9'"):
        queries.page(session, Job, after="job_9")


def test_times_come_back_as_they_went_in(session: Session) -> None:
    session.add(job(started_at=NOON.astimezone(timezone(timedelta(hours=9)))))
    session.flush()
    session.expire_all()
    found = session.get_one(Job, "job_1")
    assert (found.created_at, found.started_at) == (NOON, NOON)
    assert found.created_at.tzinfo is UTC


def test_large_counts_are_kept_whole(session: Session) -> None:
    session.add(job())
    session.flush()
    session.add(candidate(0, None))
    session.flush()
    # 5 × 10⁹ multiply-accumulates do not fit 32 bits.
    assert queries.candidates(session, "job_1")[0].macs == 5 * 10**9


@pytest.mark.parametrize("again", [candidate(1, 1.0, key="0"), candidate(0, 1.0, key="1")], ids=["key", "number"])
def test_an_architecture_is_scored_once_in_a_job(session: Session, again: Candidate) -> None:
    session.add(job())
    session.flush()
    session.add(candidate(0, 1.0))
    session.flush()
    session.add(candidate(again.number, 1.0, key=again.architecture_key))
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()


def test_a_key_makes_one_job(session: Session) -> None:
    assert queries.insert_once(session, job(idempotency_key="k"))
    found = queries.by_key(session, Job, "k")
    assert (found.id, found.progress, found.created_at.tzinfo) == ("job_1", 0.0, UTC)
    assert queries.by_key(session, Job, "other") is None
    assert queries.by_key(session, Job, None) is None
    assert not queries.insert_once(session, job("job_2", idempotency_key="k"))
    assert queries.insert_once(session, job("job_3"))
    assert [row.id for row in session.scalars(select(Job).order_by(Job.id))] == ["job_1", "job_3"]


@pytest.mark.parametrize(
    ("before", "after"), [("queued", "cancelled"), ("running", "cancelling"), ("cancelling", "cancelling")]
)
def test_a_job_that_is_not_over_can_be_cancelled(session: Session, before: str, after: str) -> None:
    session.add(job(status=before))
    session.flush()
    found = session.get_one(Job, "job_1")
    assert queries.request_cancel(session, found)
    assert found.status == after
    over = after == "cancelled"
    assert (found.finished_at is not None, queries.is_over(found)) == (over, over)
    assert [event.type for event in queries.events_after(session, "job_1", 0)] == (["done"] if over else [])


@pytest.mark.parametrize("status", TERMINAL)
def test_a_job_that_is_over_stays_as_it_is(session: Session, status: str) -> None:
    session.add(job(status=status))
    session.flush()
    found = session.get_one(Job, "job_1")
    assert not queries.request_cancel(session, found)
    assert (found.status, found.finished_at) == (status, None)
    assert queries.events_after(session, "job_1", 0) == []


def test_events_are_numbered_within_their_job_and_read_from_any_of_them(session: Session) -> None:
    session.add_all([job("job_1"), job("job_2")])
    session.flush()
    for i in range(5):
        queries.add_event(session, "job_1", f"e{i}", {"i": i})
        queries.add_event(session, "job_2", f"o{i}", {})
    found = queries.events_after(session, "job_1", 2)
    assert [(event.seq, event.type, event.data) for event in found] == [
        (3, "e2", {"i": 2}),
        (4, "e3", {"i": 3}),
        (5, "e4", {"i": 4}),
    ]
    assert len(queries.events_after(session, "job_1", 0, limit=2)) == 2
    assert queries.events_after(session, "job_1", 5) == []


def test_what_belongs_to_a_job_goes_with_it(session: Session) -> None:
    session.add(job())
    session.flush()
    session.add(
        Artifact(id="art_1", job_id="job_1", name="a", media_type="b", size_bytes=1, sha256="c", path="jobs/job_1/a")
    )
    session.flush()
    session.execute(delete(Job))
    assert session.query(Artifact).count() == 0


def test_what_is_not_there_is_named_by_kind_and_field(session: Session) -> None:
    with pytest.raises(NotFound, match="there is no upload 'up_1'") as caught:
        queries.require(session, Upload, "up_1", field="source.upload")
    assert caught.value.field == "source.upload"


def test_jobs_are_counted_by_status(session: Session) -> None:
    assert queries.counts_by_status(session) == {}
    session.add_all([job("job_1"), job("job_2"), job("job_3", "failed")])
    session.flush()
    assert queries.counts_by_status(session) == {"queued": 2, "failed": 1}


def test_ids_say_what_they_name_and_never_repeat() -> None:
    found = {queries.new_id("job") for _ in range(1000)}
    assert len(found) == 1000
    assert all(id.startswith("job_") and len(id) == 24 for id in found)
