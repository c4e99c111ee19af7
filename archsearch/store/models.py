"""The tables. Rows are the one truth about jobs; files beside the database are found through them only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

TERMINAL = ("succeeded", "failed", "cancelled")


def now() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC on both databases; SQLite has no time zones of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Row(DeclarativeBase):
    """Every table of ours; constraint names are fixed so that migrations can name them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[float]: JSON(),
        list[str]: JSON(none_as_null=True),
        list[dict[str, str]]: JSON(none_as_null=True),
        int: BigInteger,
    }


class Job(Row):
    """One request and how far it got."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_newest", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    request: Mapped[dict[str, Any]]
    # What was settled of it when it was submitted (`checks.Plan`); none of what was queued before that was done.
    plan: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    status: Mapped[str] = mapped_column(index=True)
    phase: Mapped[str | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    eta_s: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    # Attempts since the job last got further: a restart is no fault of the job, dying at one point again and again is.
    strikes: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    # What stops it just now and passes by itself, a full disk for one.
    waiting: Mapped[str | None]
    heartbeat_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)


class Event(Row):
    """Something that happened to a job; `seq` counts from 1 within the job."""

    __tablename__ = "events"

    # No foreign key: hundreds of thousands of rows would go in one transaction with their job's (`delete.sweep`).
    job_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]


class Candidate(Row):
    """One scored architecture of a job; the pair of constraints is what keeps it from being scored twice."""

    __tablename__ = "candidates"
    __table_args__ = (
        UniqueConstraint("job_id", "architecture_key", name="uq_candidates_architecture"),
        # Best first, and the front of score against each cost, without a look at the rows themselves.
        Index(
            "ix_candidates_score",
            *("job_id", "rung", "score"),
            *("params", "macs", "size_bytes", "peak_activation_bytes", "latency_ms", "number"),
        ),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    space: Mapped[str]
    architecture: Mapped[dict[str, Any]]
    architecture_key: Mapped[str]
    params: Mapped[int]
    macs: Mapped[int]
    size_bytes: Mapped[int | None]
    peak_activation_bytes: Mapped[int | None]
    latency_ms: Mapped[float | None]
    state: Mapped[str]
    score: Mapped[float | None]
    proxies: Mapped[dict[str, Any]]
    votes: Mapped[dict[str, Any]]
    reason: Mapped[str | None]
    seconds: Mapped[float]
    rung: Mapped[int]
    rungs: Mapped[list[float]]
    start: Mapped[str] = mapped_column(server_default="scratch")
    attempt: Mapped[int]


class Upload(Row):
    """Bytes arriving in parts, then whole and named by their sha256."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    filename: Mapped[str | None]
    size_bytes: Mapped[int | None]
    sha256: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="open")
    # When it was completed or last asked for: what nobody uses is kept for a while from then on.
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class DatasetRow(Row):
    """A data set: the upload it comes from and, once a worker has read that, what it is, stored under its own id."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    format: Mapped[str]
    upload: Mapped[str | None]
    options: Mapped[dict[str, Any] | None]
    status: Mapped[str] = mapped_column(default="checking")
    progress: Mapped[float] = mapped_column(default=0.0)
    attempt: Mapped[int] = mapped_column(default=0)
    sha256: Mapped[str | None]
    task: Mapped[dict[str, Any] | None]
    splits: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    # Of what was asked, unless it was refused: the same question is answered with the same row.
    question: Mapped[str | None] = mapped_column(unique=True)
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    # What loading it found that its owner should hear: code and detail of each.
    notes: Mapped[list[dict[str, str]] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class TeacherRow(Row):
    """A teacher: where it comes from and, once a worker has checked it, what it is."""

    __tablename__ = "teachers"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    source: Mapped[dict[str, Any]]
    data: Mapped[dict[str, Any] | None]
    status: Mapped[str] = mapped_column(default="checking")
    attempt: Mapped[int] = mapped_column(default=0)
    sha256: Mapped[str | None]
    # What a check found out, by name; what there is to know depends on the task. Of an image classifier `num_classes`,
    # `class_names` (first output to last; where somebody said), `in_chans`; with data `params`, `macs`, `measured_on`
    # (channels, height and width of the images `macs` was counted for) and `selection_acc`.
    facts: Mapped[dict[str, Any] | None]
    # What its check found that its owner should hear: code and detail of each.
    notes: Mapped[list[dict[str, str]] | None]
    error: Mapped[dict[str, Any] | None]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ProfileRow(Row):
    """Latencies measured on a client's device and, once a worker has fitted them, a predictor for every space."""

    __tablename__ = "profiles"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    body: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(default="checking")
    attempt: Mapped[int] = mapped_column(default=0)
    predictors: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Leftover(Row):
    """Files whose row was deleted: noted in the same transaction, so that no crash forgets them."""

    __tablename__ = "leftovers"

    path: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Artifact(Row):
    """A file a job produced; clients know its id, never its path."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name", name="uq_artifacts_name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    media_type: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    path: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
