"""Jobs as clients ask for them, checked as far as that goes without torch, and queued."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.orm import Session

from archsearch import checks, choice, domains, pretrained
from archsearch.checks import Known, Plan
from archsearch.data.shots import check_shots, evenly
from archsearch.data.task import Task
from archsearch.defaults import as_before
from archsearch.domains.images.digits import DIGITS, DIGITS_TRAIN
from archsearch.engine import Engine
from archsearch.errors import ArchsearchError, Conflict, InvalidRequest, NotReady, TeacherError
from archsearch.followup import fill, resolve
from archsearch.register import profile_of, ready_dataset, recheck_teacher, task_of
from archsearch.request import (
    DatasetData,
    DigitsData,
    JobRequest,
    PretrainedNetwork,
    RegisteredTeacher,
    TeacherNetwork,
    TimmTeacher,
    parse_request,
)
from archsearch.settings import pretrained_dir
from archsearch.store import queries, scored
from archsearch.store.models import DatasetRow, Job, ProfileRow, TeacherRow
from archsearch.store.trials import trial_of

__all__ = ["cancel", "check", "pareto", "resolve", "retry", "submit"]


def check(session: Session, request: JobRequest, *, idempotency_key: str | None = None) -> Plan | None:
    """Plan a request as far as that goes without torch; raises what `submit` raises. Writes nothing.

    Returns None where a job was made under the same key already.
    """
    request = fill(session, request)
    if _earlier(session, idempotency_key, request.model_dump(mode="json")) is None:
        return _planned(session, request)
    return None


def submit(
    session: Session,
    engine: Engine,
    request: JobRequest,
    *,
    idempotency_key: str | None = None,
    plan: Plan | None = None,
) -> Job:
    """Check a request as far as that goes without torch, and queue it in the caller's transaction.

    Args:
        plan: What `check` returned a moment ago, whose work need not hold up others who want to write.

    Raises:
        InvalidRequest: A field is wrong, or the key was used for another request; nothing was queued.
        NotReady: The data or the profile is still being checked.
    """
    request = fill(session, request)
    body = request.model_dump(mode="json")
    if (earlier := _earlier(session, idempotency_key, body)) is not None:
        return earlier
    if plan is None:
        plan = _planned(session, request)
    else:
        _require_named(session, request)
    job = Job(
        id=queries.new_id("job"),
        kind=request.kind,
        name=request.name,
        request=body,
        plan=plan.to_json(),
        status="queued",
        idempotency_key=idempotency_key,
    )
    if not queries.insert_once(session, job):  # another request with this key was a moment faster
        twin = _earlier(session, idempotency_key, body)
        assert twin is not None
        return twin
    queries.add_event(session, job.id, "queued", {"kind": request.kind})
    engine.enqueue(session, "job", job.id, job.id)
    kept: Job = session.get_one(Job, job.id)
    if isinstance(request.teacher, RegisteredTeacher):
        teacher = queries.require(session, TeacherRow, request.teacher.id)
        if teacher.status == "refused":  # for now: the job looks for itself
            with suppress(ArchsearchError):  # what the teacher was measured on may be gone; the job has its own data
                recheck_teacher(session, engine, teacher.id)
    return kept


def _earlier(session: Session, key: str | None, body: dict[str, Any]) -> Job | None:
    """The job an earlier request with this key made; raises InvalidRequest if that asked for something else."""
    job: Job | None = queries.by_key(session, Job, key)
    # What was kept before a field existed says nothing of it, nor of what could not be left open then.
    if job is not None and parse_request(job.request).model_dump(mode="json") not in (body, as_before(body)):
        raise InvalidRequest("was used for another request; choose a new one", field="Idempotency-Key")
    return job


def pareto(session: Session, job: Job, against: str | None) -> dict[str, Any]:
    """The front of a job's candidates: as the search settled it, or from the candidates there are so far.

    Raises:
        Conflict: No candidate's cost is known in the unit asked for.
    """
    found = (job.result or {}).get("search") or {}
    traded = found.get("traded") or choice.traded(parse_request(job.request))
    winner = found["winner"]["number"] if found else None
    if "front" in found and against in (None, traded):
        return {"against": traded, "front": found["front"], "winner": winner}
    axis = against or traded
    if not scored.knows(session, job.id, axis):
        raise Conflict(f"the search of {job.id} did not look at {axis}; limit it in the budget or set search.trade")
    front = [choice.describe(trial_of(row)) for row in scored.front(session, job.id, axis)]
    return {"against": axis, "front": front, "winner": winner}


def cancel(session: Session, job_id: str) -> Job:
    """Ask a job to stop; raises Conflict once it has ended."""
    job: Job = queries.require(session, Job, job_id)
    if not queries.request_cancel(session, job):
        raise Conflict(f"job {job_id} has already {job.status}")
    return job


def retry(session: Session, engine: Engine, job_id: str, *, idempotency_key: str | None = None) -> Job:
    """Queue another attempt at a job that failed or was cancelled; raises Conflict for any other.

    It goes on from what the earlier ones kept: finished phases, candidates, checkpoints. Asked again under the same
    key, the answer is the job as it is by then. Raises NotFound where what it names was deleted.
    """
    job: Job = queries.require(session, Job, job_id)
    if queries.retried_under(session, job_id, idempotency_key):
        return job
    _require_named(session, parse_request(job.request))
    if not queries.queue_again(session, job, idempotency_key):
        advice = "submit it as a new job" if job.status == "succeeded" else "wait for its end, or cancel it first"
        raise Conflict(f"job {job_id} is {job.status}; one that failed or was cancelled can be retried: {advice}")
    engine.enqueue_again(session, "job", job_id, job_id)
    return job


def _require_named(session: Session, request: JobRequest) -> None:
    """Raise NotFound for what was deleted since the request was checked; what is there stays until the job names it."""
    for table, id, field in (
        (TeacherRow, request.teacher.id if isinstance(request.teacher, RegisteredTeacher) else None, "teacher.id"),
        (DatasetRow, request.data.id if isinstance(request.data, DatasetData) else None, "data.id"),
        (ProfileRow, request.budget.device if request.budget.device.startswith("prf_") else None, "budget.device"),
        (Job, request.student.job if request.student else None, "student.job"),
    ):
        if id is not None:
            queries.require(session, table, id, field=field, lock="shared")


def _planned(session: Session, request: JobRequest) -> Plan:
    """What rows and closed forms tell of a request; no path of this machine is for clients."""
    request = resolve(session, request)
    if not isinstance(request.data, DigitsData | DatasetData):
        raise InvalidRequest("paths are for the library; upload the data and use kind 'dataset'", field="data.kind")
    if not isinstance(request.teacher, TimmTeacher | RegisteredTeacher):
        raise InvalidRequest(
            "paths are for the library; register the teacher and use kind 'teacher'", field="teacher.kind"
        )
    _check_networks(session, request.search.pretrained or ())
    task, images = _known_data(session, request.data)
    teacher = _known_teacher(session, request.teacher) if isinstance(request.teacher, RegisteredTeacher) else {}
    return checks.plan(request, Known(task, images, teacher, profile_of(session, request.budget)))


def _known_data(session: Session, spec: DigitsData | DatasetData) -> tuple[Task, int]:
    """The task, and how many images there are to learn from."""
    task: Task
    if isinstance(spec, DatasetData):
        row = ready_dataset(session, spec.id, field="data.id")
        task, splits = task_of(row), row.splits or {}
    else:
        task, splits = DIGITS, {"train": DIGITS_TRAIN}
    labelled, others = splits["train"], splits.get("unlabelled", 0)
    if spec.shots is not None:
        if task.prevalence or task.truth == "teacher":
            check_shots(spec, task, [round(share * labelled) for share in task.prevalence])
        task, labelled = evenly(task), task.classes * spec.shots if spec.rest == "drop" else labelled
    return task, labelled + others


def _known_teacher(session: Session, spec: RegisteredTeacher) -> dict[str, Any]:
    """What a teacher's row tells; an upload says itself what its head is, before any worker has looked at it."""
    row: TeacherRow = queries.require(session, TeacherRow, spec.id, field="teacher.id", lock="shared")
    if row.status == "refused" and not (row.error or {}).get("retryable"):
        raise TeacherError(f"{spec.id} was refused: {(row.error or {}).get('detail')}", field="teacher.id")
    return {**(row.facts or {}), **row.source}


def _check_networks(session: Session, named: Sequence[PretrainedNetwork]) -> None:
    """Raise for a network with weights that is not to be had: no name, no folder, no teacher that is one of images."""
    pretrained.check_named(named, pretrained_dir())
    for i, one in enumerate(named):
        if not isinstance(one, TeacherNetwork):
            continue
        field = f"{pretrained.FIELD}.{i}"
        row: TeacherRow = queries.require(session, TeacherRow, one.id, field=field, lock="shared")
        if row.status == "checking":
            raise NotReady(f"teacher {one.id} is still being checked", field=field)
        if row.status == "refused":
            raise TeacherError(f"{one.id} was refused: {(row.error or {}).get('detail')}", field=field)
        domain = (row.facts or {}).get("domain", "image_classification")
        if domain != "image_classification":
            raise InvalidRequest(f"{one.id} is a network of {domains.get(domain).examples}", field=field)
