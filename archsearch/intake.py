"""Jobs as clients ask for them, checked as far as that goes without torch, and queued."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from archsearch import choice, story
from archsearch.data.task import Task
from archsearch.defaults import as_before
from archsearch.domains.images.digits import DIGITS, DIGITS_TRAIN
from archsearch.engine import Engine
from archsearch.errors import ArchsearchError, Conflict, InvalidRequest, TeacherError
from archsearch.followup import fill, resolve
from archsearch.hardware import Limits, limits
from archsearch.hardware.devices import devices
from archsearch.hardware.profile import Profile
from archsearch.register import check_channels, check_classes, ready_dataset, ready_profile, recheck_teacher, task_of
from archsearch.request import (
    Budget,
    DatasetData,
    DigitsData,
    JobRequest,
    RegisteredTeacher,
    TimmTeacher,
    parse_request,
)
from archsearch.spaces import Cost, choose
from archsearch.store import queries, scored
from archsearch.store.models import DatasetRow, Job, ProfileRow, TeacherRow
from archsearch.store.trials import trial_of
from archsearch.teachers import check_source

__all__ = ["cancel", "check", "pareto", "profile_of", "resolve", "retry", "submit"]


def check(session: Session, request: JobRequest, *, idempotency_key: str | None = None) -> None:
    """Check a request as far as that goes without torch; raises what `submit` raises. Writes nothing."""
    request = fill(session, request)
    if _earlier(session, idempotency_key, request.model_dump(mode="json")) is None:
        _check_remote(session, resolve(session, request))


def submit(
    session: Session,
    engine: Engine,
    request: JobRequest,
    *,
    idempotency_key: str | None = None,
    checked: bool = False,
) -> Job:
    """Check a request as far as that goes without torch, and queue it in the caller's transaction.

    Args:
        checked: `check` had nothing to say a moment ago: its work need not hold up others who want to write.

    Raises:
        InvalidRequest: A field is wrong, or the key was used for another request; nothing was queued.
        NotReady: The data or the profile is still being checked.
    """
    request = fill(session, request)
    body = request.model_dump(mode="json")
    if (earlier := _earlier(session, idempotency_key, body)) is not None:
        return earlier
    if checked:
        _require_named(session, request)
    else:
        _check_remote(session, resolve(session, request))
    job = Job(
        id=queries.new_id("job"),
        kind=request.kind,
        name=request.name,
        request=body,
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


def profile_of(session: Session, budget: Budget) -> Profile | None:
    """The uploaded profile a budget's device names, if it names one; raises for a device nobody knows."""
    if budget.device.startswith("prf_"):
        return ready_profile(session, budget.device, field="budget.device")
    devices.get(budget.device, field="budget.device")
    return None


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


def _check_remote(session: Session, request: JobRequest) -> None:
    """Everything about a request that rows and closed forms can tell; no path of this machine is for clients."""
    if not isinstance(request.data, DigitsData | DatasetData):
        raise InvalidRequest("paths are for the library; upload the data and use kind 'dataset'", field="data.kind")
    if not isinstance(request.teacher, TimmTeacher | RegisteredTeacher):
        raise InvalidRequest(
            "paths are for the library; register the teacher and use kind 'teacher'", field="teacher.kind"
        )
    known = _known_data(session, request.data)
    story.check_request(request, known)
    most = limits(request.budget, None)
    if isinstance(request.teacher, TimmTeacher):
        check_source(request.teacher, field="teacher")
    else:
        most = _check_known_teacher(session, request.teacher, known.task, request.budget)
    profile = profile_of(session, request.budget)
    if request.kind == "distill":
        return
    if request.search.space == "teacher":  # what it holds takes the network itself to tell
        return
    searched = choose(request.search.space, known.task, None, len(known.train))
    if choice.wants_latency(request):
        searched = choice.timed_spaces(request, searched, known.task, profile)
    story.check_possible(request, searched, known.task, most)


@dataclass(frozen=True)
class _KnownData:
    """What the tables know of a data set: enough to check a request against."""

    task: Task
    train: range


def _known_data(session: Session, spec: DigitsData | DatasetData) -> _KnownData:
    if isinstance(spec, DatasetData):
        row = ready_dataset(session, spec.id, field="data.id")
        return _KnownData(task_of(row), range((row.splits or {})["train"]))
    return _KnownData(DIGITS, range(DIGITS_TRAIN))


def _check_known_teacher(session: Session, spec: RegisteredTeacher, task: Task, budget: Budget) -> Limits:
    """Hold a registered teacher against the data; returns the budget in absolute numbers, as far as they are known."""
    row: TeacherRow = queries.require(session, TeacherRow, spec.id, field="teacher.id", lock="shared")
    if row.status == "refused" and not (row.error or {}).get("retryable"):
        raise TeacherError(f"{spec.id} was refused: {(row.error or {}).get('detail')}", field="teacher.id")
    # An upload says itself what its head is, before any worker has looked at it.
    facts = {**(row.facts or {}), **row.source}
    num_classes, in_chans = facts.get("num_classes"), facts.get("in_chans")
    if num_classes is not None and in_chans is not None:
        given = row.source.get("classes") if spec.classes is None else spec.classes
        check_classes(facts.get("class_names"), num_classes, task, given, "teacher")
        check_channels(in_chans, task, "teacher.id")
    params, macs = facts.get("params"), facts.get("macs")
    if params is None or macs is None:
        return limits(budget, None)
    if facts.get("measured_on") == {"in_chans": task.in_chans, "height": task.height, "width": task.width}:
        return limits(budget, Cost(params, macs))
    # Counted on images of another size, or who knows which: a worker counts its multiply-accumulates on these.
    known = Cost(params, macs) if budget.params_ratio is not None else None
    return limits(budget.model_copy(update={"macs_ratio": None}), known)
