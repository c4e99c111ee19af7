"""Jobs: ask for one, watch it, stop it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import BackgroundTasks, Query, Request, Response
from sqlalchemy.orm import Session

from archsearch import intake
from archsearch.errors import Conflict
from archsearch.request import JobRequest, Kind, TradedCost
from archsearch.request.students import MOST
from archsearch.store import delete, queries, scored
from archsearch.store.models import Job

from ..deps import Key, ServicesDep, not_modified
from ..room import Room, written
from ..schemas import ArtifactAnswer, CandidateAnswer, FrontAnswer, JobAnswer, JobStatus, Page

router = Room(prefix="/jobs", tags=["jobs"])
Limit = Annotated[int, Query(ge=1, le=200)]
# Rows that are skipped are still counted one by one.
FARTHEST = 10_000


@router.post("", status_code=202)
def create(
    body: JobRequest,
    response: Response,
    services: ServicesDep,
    idempotency_key: Key = None,
) -> JobAnswer:
    """Queue a job. The same `Idempotency-Key` with the same body gives back the job it made the first time."""
    with services.reading() as session:
        plan = intake.check(session, body, idempotency_key=idempotency_key)
    with services.transaction() as session:
        job = intake.submit(session, services.engine, body, idempotency_key=idempotency_key, plan=plan)
        found = answer(session, job.id)
    response.headers["Location"] = f"/v1/jobs/{found.id}"
    response.headers["Retry-After"] = "1"
    return found


@router.get("")
def list_jobs(
    services: ServicesDep,
    after: str | None = None,
    limit: Limit = 50,
    status: JobStatus | None = None,
    kind: Kind | None = None,
) -> Page[JobAnswer]:
    """Newest first, without their results: those may be long, and GET of one job has its own."""
    with services.reading() as session:
        rows, next_after = queries.page(
            session, Job, after=after, limit=limit, what=scored.OVERVIEWS, status=status, kind=kind
        )
    data = [JobAnswer.model_validate(row) for row in rows]
    return Page(data=data, has_more=next_after is not None, next_after=next_after)


@router.get("/{job_id}", response_model=JobAnswer)
def get(job_id: str, request: Request, services: ServicesDep) -> Any:
    """One job. Poll with `If-None-Match` and be told 304 while nothing has changed."""
    with services.reading() as session:
        found = written(answer(session, job_id))
    found.headers["ETag"] = f'"{hashlib.sha256(found.body).hexdigest()[:32]}"'
    if not_modified(request, found.headers["ETag"]):
        return Response(status_code=304, headers={"ETag": found.headers["ETag"]})
    return found


@router.post("/{job_id}:cancel", status_code=202)
def cancel(job_id: str, services: ServicesDep) -> JobAnswer:
    """Ask a job to stop. A running one stops within about a second; 409 once it has ended."""
    with services.transaction() as session:
        return answer(session, intake.cancel(session, job_id).id)


@router.delete("/{job_id}", status_code=204)
def remove(job_id: str, services: ServicesDep, after: BackgroundTasks) -> None:
    """A job that has ended, with all it found; 409 before its end, and while a follow-up job needs it."""
    with services.transaction() as session:
        delete.delete_job(session, job_id)
    after.add_task(services.sweep)


@router.post("/{job_id}:retry", status_code=202)
def retry(job_id: str, services: ServicesDep, idempotency_key: Key = None) -> JobAnswer:
    """Go on with a job that failed or was cancelled from its last checkpoint, as another attempt; 409 for any other."""
    with services.transaction() as session:
        return answer(session, intake.retry(session, services.engine, job_id, idempotency_key=idempotency_key).id)


@router.get("/{job_id}/candidates")
def candidates(
    job_id: str,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=FARTHEST, description="Beyond, go on with `after`.")] = 0,
    after: Annotated[int | None, Query(ge=0, lt=2**63, description="Number of the last candidate seen.")] = None,
) -> list[CandidateAnswer]:
    """Every architecture that was scored, best first, and those that failed. For all of them, ask again with `after`
    until the answer is empty."""
    with services.reading() as session:
        queries.require(session, Job, job_id)
        rows = scored.best(session, job_id, limit, offset=offset, after=after)
        return [CandidateAnswer.model_validate(row) for row in rows]


@router.get("/{job_id}/pareto")
def pareto(job_id: str, services: ServicesDep, against: TradedCost | None = None) -> FrontAnswer:
    """Candidates that no other one beats in both the score and a cost: the one the search traded, or any other."""
    with services.reading() as session:
        job: Job = queries.require(session, Job, job_id)
        return FrontAnswer.model_validate(intake.pareto(session, job, against))


@router.get("/{job_id}/artifacts")
def artifacts(
    job_id: str,
    services: ServicesDep,
    student: Annotated[
        int | None, Query(ge=1, le=MOST, description="Of a job with several students, the number of one.")
    ] = None,
) -> list[ArtifactAnswer]:
    """What the job made; 409 until it has succeeded. Of several students these are the first one's files, with the
    table and the picture of all."""
    with services.reading() as session:
        job: Job = queries.require(session, Job, job_id)
        if job.status != "succeeded":
            reason = (job.error or {}).get("detail")
            raise Conflict(f"job {job_id} is {job.status}, it has no artifacts" + (f": {reason}" if reason else " yet"))
        return [ArtifactAnswer.model_validate(row) for row in queries.artifacts_of(session, job, student)]


def answer(session: Session, job_id: str) -> JobAnswer:
    return JobAnswer.model_validate(scored.overview(session, job_id))
