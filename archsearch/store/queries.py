"""Questions to the tables. Queries take a session and never commit; whoever opened the session does."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Select, func, inspect, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from archsearch.errors import Cancelled, NotFound
from archsearch.outfolder import STUDENTS
from archsearch.store.models import (
    TERMINAL,
    Artifact,
    Candidate,
    DatasetRow,
    Event,
    Job,
    ProfileRow,
    Row,
    TeacherRow,
    Upload,
    now,
)

Prefix = Literal["job", "art", "tch", "ds", "up", "prf"]
_NOUNS: dict[type[Row], str] = {
    Job: "job", Upload: "upload", DatasetRow: "data set", TeacherRow: "teacher", Artifact: "artifact",
    ProfileRow: "profile",
}  # fmt: skip


def new_id(prefix: Prefix) -> str:
    """An id nobody guesses; its prefix says what it names."""
    return f"{prefix}_{secrets.token_hex(10)}"


def require(
    session: Session,
    table: type[Any],
    id: str,
    *,
    field: str | None = None,
    lock: Literal["shared", "alone"] | None = None,
) -> Any:
    """The row with this id; raises NotFound.

    Args:
        lock: Until the transaction's end nobody deletes the row (`shared`), or relies on it (`alone`). On SQLite, where
            one writes at a time, the transaction has to be a writing one from its start.
    """
    # The weaker of PostgreSQL's two shared locks: several may rely on a row, and one of them still change it.
    update = None if lock is None else {"read": True, "key_share": True} if lock == "shared" else True
    row = session.get(table, id, with_for_update=update, populate_existing=lock is not None)
    if row is None:
        raise NotFound(f"there is no {_NOUNS[table]} {id!r}", field=field)
    return row


def page(
    session: Session,
    table: type[Any],
    *,
    after: str | None = None,
    limit: int = 50,
    what: Select[Any] | None = None,
    **equal: str | None,
) -> tuple[list[Any], str | None]:
    """Newest first: up to `limit` rows after the row with id `after`, and the id to go on from, if there is more.

    Args:
        what: Columns of the table, `id` among them, instead of all.
    """
    newest_first = (table.created_at.desc(), table.id.desc())
    ids = select(table.id).order_by(*newest_first).limit(limit + 1)
    for column, value in equal.items():
        if value is not None:
            ids = ids.where(getattr(table, column) == value)
    if after is not None:
        last = require(session, table, after, field="after")
        same_instant = (table.created_at == last.created_at) & (table.id < last.id)
        ids = ids.where((table.created_at < last.created_at) | same_instant)
    # First which rows, then what is asked of them: a database would count the candidates of all jobs before it sorts.
    query = (select(table) if what is None else what).where(table.id.in_(ids)).order_by(*newest_first)
    rows: list[Any] = list(session.scalars(query) if what is None else session.execute(query))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def insert_once(session: Session, row: Row) -> bool:
    """Insert a row now, unless one with the same unique value is there; false then. Raises nothing of the database's.

    Of two transactions that do this at once, the second waits for the end of the first.
    """
    values = {name: value for name, value in vars(row).items() if name in inspect(type(row)).columns}
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    table: Any = type(row)
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(table.id)
    return session.scalar(statement) is not None


def by_key(session: Session, table: type[Any], key: str | None) -> Any:
    """The row a request with this `Idempotency-Key` made, or None."""
    return None if key is None else session.scalar(select(table).where(table.idempotency_key == key))


def add_event(session: Session, job_id: str, type: str, data: dict[str, Any]) -> None:
    """Append an event; a job has one writer at a time, so the next number is free."""
    last = session.scalar(select(func.max(Event.seq)).where(Event.job_id == job_id)) or 0
    session.add(Event(job_id=job_id, seq=last + 1, type=type, data=data))
    session.flush()


def events_after(session: Session, job_id: str, after: int, limit: int = 500) -> Sequence[Event]:
    query = select(Event).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq).limit(limit)
    return session.scalars(query).all()


def warnings(session: Session, job_id: str) -> list[dict[str, str | int]]:
    """Code and detail of everything a job warned of, in order; and of which of several students."""
    query = select(Event.data).where(Event.job_id == job_id, Event.type == "warning").order_by(Event.seq)
    told = ("code", "detail", "student")
    return [{name: data[name] for name in told if name in data} for data in session.scalars(query)]


def candidates(session: Session, job_id: str) -> Sequence[Candidate]:
    """A job's candidates in the order they were scored."""
    return session.scalars(select(Candidate).where(Candidate.job_id == job_id).order_by(Candidate.number)).all()


def candidate(session: Session, job_id: str, number: int, *, field: str | None = None) -> Candidate:
    """One candidate of a job; raises NotFound."""
    row = session.get(Candidate, (job_id, number))
    if row is None:
        raise NotFound(f"job {job_id!r} has no candidate {number}", field=field)
    return row


def artifacts(session: Session, job_id: str) -> Sequence[Artifact]:
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def artifacts_of(session: Session, job: Job, student: int | None = None) -> Sequence[Artifact]:
    """The files of one of a job's students: of the first there is, or of the one of this number.

    Raises NotFound where the job has no such student, with the reason where it was to have one.
    """
    rows = (job.result or {}).get("students") or [{"student": 1, "folder": "."}]
    named: dict[str, Any] = next((one for one in rows if one["student"] == student), {})
    row = {"folder": "."} if student is None else named
    if row.get("folder") is None:
        told = "" if not row else f": {row.get('failed') or 'none was trained'}"
        raise NotFound(f"job {job.id} has no student {student}{told}", field="student")
    beside = f"{STUDENTS}/"
    prefix = "" if row["folder"] == "." else f"{row['folder']}/"
    found = artifacts(session, job.id)
    return [one for one in found if (one.name.startswith(prefix) if prefix else not one.name.startswith(beside))]


def request_cancel(session: Session, job: Job) -> bool:
    """Ask a job to stop; a queued one stops at once. False when it had already ended."""
    to_cancelling = update(Job).where(Job.id == job.id, Job.status.in_(("running", "cancelling")))
    to_cancelled = update(Job).where(Job.id == job.id, Job.status == "queued")
    error = Cancelled("cancelled on request").problem()
    if session.execute(to_cancelled.values(status="cancelled", finished_at=now(), error=error)).rowcount:  # type: ignore[attr-defined]
        add_event(session, job.id, "done", {"status": "cancelled", "error": error})
        session.refresh(job)
        return True
    asked = session.execute(to_cancelling.values(status="cancelling")).rowcount  # type: ignore[attr-defined]
    session.refresh(job)
    return bool(asked)


def queue_again(session: Session, job: Job, key: str | None = None) -> bool:
    """Let a job that failed or was cancelled go on from where it was. False when it is anything else."""
    ended = update(Job).where(Job.id == job.id, Job.status.in_(("failed", "cancelled")))
    fresh = {"finished_at": None, "error": None, "worker": None, "waiting": None, "strikes": 0}
    again = session.execute(ended.values(status="queued", **fresh)).rowcount  # type: ignore[attr-defined]
    session.refresh(job)
    if again:
        add_event(session, job.id, "retried", {"attempt": job.attempt + 1} | ({"key": key} if key else {}))
    return bool(again)


def retried_under(session: Session, job_id: str, key: str | None) -> bool:
    """Whether a request with this `Idempotency-Key` has queued the job again."""
    query = select(Event.data).where(Event.job_id == job_id, Event.type == "retried")
    return key is not None and any(data.get("key") == key for data in session.scalars(query))


def uploads_of(session: Session, sha256: str) -> Sequence[Upload]:
    """Complete uploads with this content, the newest first; nobody deletes them before the transaction's end."""
    query = select(Upload).where(Upload.sha256 == sha256, Upload.status == "complete").with_for_update(key_share=True)
    return session.scalars(query.order_by(Upload.created_at.desc())).all()


def counts_by_status(session: Session) -> dict[str, int]:
    rows = session.execute(select(Job.status, func.count()).group_by(Job.status))
    return {status: jobs for status, jobs in rows}  # noqa: C416 (a Row is no tuple to mypy)


def is_over(job: Job) -> bool:
    return job.status in TERMINAL
