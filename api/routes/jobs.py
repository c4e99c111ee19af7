"""Jobs: ask for one, watch it, stop it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.orm import Session

from archsearch import intake
from archsearch.errors import Conflict
from archsearch.request import JobRequest, Kind, TradedCost
from archsearch.store import queries
from archsearch.store.models import Job

from ..deps import Count, ServicesDep, SessionDep, not_modified
from ..schemas import ArtifactAnswer, CandidateAnswer, FrontAnswer, JobAnswer, JobStatus, Page

router = APIRouter(prefix="/jobs", tags=["jobs"])
Limit = Annotated[int, Query(ge=1, le=200)]


@router.post("", status_code=202)
def create(
    body: JobRequest,
    response: Response,
    session: SessionDep,
    services: ServicesDep,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> JobAnswer:
    """Queue a job. The same `Idempotency-Key` with the same body gives back the job it made the first time."""
    job = intake.submit(session, services.engine, body, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = "1"
    return answer(session, job)


@router.get("")
def list_jobs(
    session: SessionDep,
    after: str | None = None,
    limit: Limit = 50,
    status: JobStatus | None = None,
    kind: Kind | None = None,
) -> Page[JobAnswer]:
    """Newest first."""
    rows, next_after = queries.page(session, Job, after=after, limit=limit, status=status, kind=kind)
    return Page(data=[answer(session, row) for row in rows], has_more=next_after is not None, next_after=next_after)


@router.get("/{job_id}")
def get(job_id: str, request: Request, response: Response, session: SessionDep) -> Any:
    """One job. Poll with `If-None-Match` and be told 304 while nothing has changed."""
    found = answer(session, queries.require(session, Job, job_id))
    etag = f'"{hashlib.sha256(found.model_dump_json().encode()).hexdigest()[:32]}"'
    if not_modified(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return found


@router.post("/{job_id}:cancel", status_code=202)
def cancel(job_id: str, session: SessionDep) -> JobAnswer:
    """Ask a job to stop. A running one stops within about a second; 409 once it has ended."""
    return answer(session, intake.cancel(session, job_id))


@router.get("/{job_id}/candidates")
def candidates(
    job_id: str,
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Count = 0,
) -> list[CandidateAnswer]:
    """Every architecture that was scored, best first."""
    queries.require(session, Job, job_id)
    return [CandidateAnswer.model_validate(row) for row in queries.best_candidates(session, job_id, limit, offset)]


@router.get("/{job_id}/pareto")
def pareto(job_id: str, session: SessionDep, against: TradedCost | None = None) -> FrontAnswer:
    """Candidates that no other one beats in both the score and a cost: the one the search traded, or any other."""
    job: Job = queries.require(session, Job, job_id)
    return FrontAnswer.model_validate(intake.pareto(session, job, against))


@router.get("/{job_id}/artifacts")
def artifacts(job_id: str, session: SessionDep) -> list[ArtifactAnswer]:
    """What the job made; 409 until it has succeeded."""
    job: Job = queries.require(session, Job, job_id)
    if job.status != "succeeded":
        reason = (job.error or {}).get("detail")
        raise Conflict(f"job {job_id} is {job.status}, it has no artifacts" + (f": {reason}" if reason else " yet"))
    return [ArtifactAnswer.model_validate(row) for row in queries.artifacts(session, job_id)]


def answer(session: Session, job: Job) -> JobAnswer:
    found = JobAnswer.model_validate(job)
    return found.model_copy(update={"candidates_scored": queries.count_candidates(session, job.id)})
