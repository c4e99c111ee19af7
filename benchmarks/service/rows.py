"""Rows as a service has them after years: many jobs, one of them with very many candidates."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from archsearch.store.database import connect, session_factory
from archsearch.store.models import Candidate, Job

# The job of the very many.
MANY = "job_many"
# Of all candidates, its share; the others have the rest, each alike.
_SHARE = 0.2
_AT_ONCE = 20_000
_REQUEST = {
    "kind": "search", "teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"},
    "budget": {"params": 50_000}, "search": {"trade": "params"},
}  # fmt: skip
_ENDED = ("succeeded", "failed", "cancelled")


def fill(url: str, jobs: int, candidates: int) -> None:
    """Insert so many jobs that have ended, and so many candidates in all."""
    engine, rng = connect(url), random.Random(0)
    many = int(candidates * _SHARE)
    with session_factory(engine).begin() as session:
        session.execute(sa.insert(Job), [_job(number) for number in range(jobs - 1)] + [_job(jobs, MANY)])
        session.flush()
        rows = _candidates(jobs, many, (candidates - many) // max(1, jobs - 1), rng)
        while some := [row for _, row in zip(range(_AT_ONCE), rows, strict=False)]:
            session.execute(sa.insert(Candidate), some)
    if engine.dialect.name == "postgresql":  # as its own autovacuum does within a minute
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def _job(number: int, name: str | None = None) -> dict[str, Any]:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return {
        "id": name or f"job_{number:020d}", "kind": "search", "request": _REQUEST,
        "status": _ENDED[number % 3], "progress": 1.0, "created_at": at, "started_at": at, "finished_at": at,
        "result": {"search": {"candidates_scored": 64}} if number % 3 == 0 else None,
    }  # fmt: skip


def _candidates(jobs: int, many: int, each: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    yield from (_candidate(MANY, number, rng) for number in range(many))
    for job in range(jobs - 1):
        yield from (_candidate(f"job_{job:020d}", number, rng) for number in range(each))


def _candidate(job: str, number: int, rng: random.Random) -> dict[str, Any]:
    """Its score grows with its size, as scores do; one in a hundred failed."""
    params = rng.randrange(10_000, 1_000_000)
    score = None if number % 100 == 99 else params**0.5 / 100 + rng.gauss(0, 0.5)
    return {
        "job_id": job, "number": number, "space": "resnet", "architecture": {"depth": number},
        "architecture_key": str(number), "params": params, "macs": 100 * params + rng.randrange(10**6),
        "size_bytes": 4 * params, "peak_activation_bytes": None, "latency_ms": None,
        "state": "failed" if score is None else "scored", "score": score, "proxies": {"zen": 1.0},
        "votes": {"zen": 0.5}, "reason": None, "seconds": 0.1, "rung": 0 if score is None else 1,
        "rungs": [] if score is None else [score], "attempt": 1,
    }  # fmt: skip
