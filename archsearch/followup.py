"""Jobs that distil a candidate another job scored: what they take from it, and what has to be the same."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue
from sqlalchemy.orm import Session

from archsearch.errors import InvalidRequest
from archsearch.request import (
    DatasetData,
    JobRequest,
    OfJob,
    RegisteredTeacher,
    SearchSpec,
    StudentSpec,
    TimmTeacher,
    parse_request,
)
from archsearch.spaces.choose import PRETRAINED
from archsearch.store import queries
from archsearch.store.models import DatasetRow, Job, TeacherRow


def fill(session: Session, request: JobRequest) -> JobRequest:
    """The request with the teacher and the data it leaves to the job whose candidate it distils."""
    left_out = [name for name in ("teacher", "data") if isinstance(getattr(request, name), OfJob)]
    if not left_out or request.student is None:
        return request
    source = parse_request(_source(session, request.student).request)
    return request.model_copy(update={name: getattr(source, name) for name in left_out})


def resolve(session: Session, request: JobRequest) -> JobRequest:
    """The request with the student another job's candidate is, in its own words."""
    named = request.student
    if named is None or named.job is None or named.candidate is None:
        return request
    request = fill(session, request)
    source = parse_request(_source(session, named).request)
    row = queries.candidate(session, named.job, named.candidate, field="student.candidate")
    if row.state != "scored":
        raise InvalidRequest(f"candidate {named.candidate} has no score: {row.reason}", field="student.candidate")
    # Strides, patches and heads follow the task, and the space `teacher` means eighths of one teacher.
    for field in ("teacher", "data"):
        theirs, ours = getattr(source, field), getattr(request, field)
        if theirs != ours and _identity(session, theirs).isdisjoint(_identity(session, ours)):
            told = theirs.model_dump(mode="json", exclude_none=True)
            raise InvalidRequest(
                f"the candidate was scored for another {field}; leave it out, or name the one of {named.job}: {told}",
                field=field,
            )
    student = StudentSpec(space=row.space, architecture={name: int(v) for name, v in row.architecture.items()})
    found = request.model_copy(update={"student": student})
    return found if row.space != PRETRAINED else _with_networks(session, named, found)


def _source(session: Session, named: StudentSpec) -> Job:
    job: Job = queries.require(session, Job, str(named.job), field="student.job", lock="shared")
    return job


def _identity(session: Session, spec: Any) -> set[tuple[str, JsonValue]]:
    """What a teacher or a data set is known by: two that share any of these are the same, however they are named."""
    if isinstance(spec, TimmTeacher):
        return {("timm", spec.name)}
    if isinstance(spec, RegisteredTeacher):
        row = session.get(TeacherRow, spec.id)
        timm = None if row is None else row.source.get("name")
        known = {"id": spec.id, "sha256": None if row is None else row.sha256, "timm": timm}
    elif isinstance(spec, DatasetData):
        data = session.get(DatasetRow, spec.id)
        known = {"id": spec.id, "sha256": None if data is None else data.sha256}
    else:
        known = {"kind": spec.kind}
    return {(name, value) for name, value in known.items() if value is not None}


def _with_networks(session: Session, named: StudentSpec, request: JobRequest) -> JobRequest:
    """The request naming the networks with weights that a candidate's architecture counts in."""
    told = (_source(session, named).result or {}).get("pretrained") or {}
    if not told.get("networks"):
        raise InvalidRequest(
            f"which network candidate {named.candidate} is, {named.job} tells when it has ended", field="student.job"
        )
    search = SearchSpec.model_validate({**request.search.model_dump(mode="json"), "pretrained": told["networks"]})
    return request.model_copy(update={"search": search})
