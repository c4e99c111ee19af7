"""What clients ask for, checked as far as that goes without torch, and kept: jobs, teachers, data sets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from archsearch import choice, data, story
from archsearch.data.task import Task
from archsearch.engine import Engine
from archsearch.errors import Conflict, InvalidRequest, TeacherError
from archsearch.hardware import limits
from archsearch.hardware.devices import devices
from archsearch.hardware.profile import Profile, read_profile
from archsearch.request import (
    Budget,
    ClassMap,
    DatasetData,
    DigitsData,
    Fit,
    JobRequest,
    OnBroken,
    RegisteredTeacher,
    StudentSpec,
    TimmTeacher,
    UploadedTeacher,
    parse_request,
)
from archsearch.search import front
from archsearch.settings import Settings
from archsearch.spaces import Cost, choose
from archsearch.store import queries
from archsearch.store.files import Files
from archsearch.store.models import DatasetRow, Job, ProfileRow, TeacherRow, Upload
from archsearch.store.trials import trial_of
from archsearch.teachers import check_source, check_weights_file
from archsearch.teachers.classes import order_of


def submit(session: Session, engine: Engine, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
    """Check a request as far as that goes without torch, and queue it in the caller's transaction.

    Raises:
        InvalidRequest: A field is wrong; nothing was queued.
        Conflict: The idempotency key was used for another request.
    """
    body = request.model_dump(mode="json")
    if idempotency_key is not None and (earlier := queries.job_by_idempotency_key(session, idempotency_key)):
        # What was kept before a field existed says nothing of it.
        if parse_request(earlier.request).model_dump(mode="json") != body:
            raise InvalidRequest("was used for another request; choose a new one", field="Idempotency-Key")
        return earlier
    _check_remote(session, resolve(session, request))
    job = Job(
        id=queries.new_id("job"),
        kind=request.kind,
        name=request.name,
        request=body,
        status="queued",
        idempotency_key=idempotency_key,
    )
    session.add(job)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict("a request with this key is being handled right now", field="Idempotency-Key") from None
    queries.add_event(session, job.id, "queued", {"kind": request.kind})
    engine.enqueue(session, "job", job.id, job.id)
    return job


def register_teacher(
    session: Session,
    engine: Engine,
    files: Files,
    source: TimmTeacher | UploadedTeacher,
    *,
    name: str | None,
    data: DigitsData | DatasetData | None,
) -> TeacherRow:
    """Keep a teacher and queue the check that only torch can make."""
    check_source(source)
    if isinstance(source, UploadedTeacher):
        upload = completed_upload(session, source.upload, "source.upload")
        check_weights_file(files.upload(upload.id), field="source.upload")
    if isinstance(data, DatasetData):
        row = queries.require(session, DatasetRow, data.id, field="data.id")
        if isinstance(source, UploadedTeacher):
            _check_classes(source.class_names, source.num_classes, task_of(row), source.classes, "source")
            _check_channels(source.in_chans, task_of(row), "source")
    id = queries.new_id("tch")
    body = source.model_dump(mode="json")
    teacher = TeacherRow(id=id, name=name, source=body, data=None if data is None else data.model_dump(mode="json"))
    session.add(teacher)
    session.flush()
    engine.enqueue(session, "teacher", id, id, lane="light")
    return teacher


def register_dataset(
    session: Session,
    files: Files,
    settings: Settings,
    *,
    upload_id: str,
    format: Literal["npz", "image_folder"],
    name: str | None,
    image_size: int | tuple[int, int] | None,
    fit: Fit = "crop",
    on_broken: OnBroken = "refuse",
) -> DatasetRow:
    """Read, check and store an upload; raises DataError or TooLarge naming the array, member or class at fault."""
    completed_upload(session, upload_id, "upload")
    bounds = data.Limits(max_bytes=settings.max_dataset_bytes, max_images=settings.max_images)
    path = files.upload(upload_id)
    if format == "npz":
        if image_size is not None:
            raise InvalidRequest("only image_folder is resized; leave it out for npz", field="image_size")
        dataset = data.load_npz(path, bounds)
    else:
        dataset = data.load_image_folder(path, image_size, bounds, fit=fit, on_broken=on_broken)
    id = queries.new_id("ds")
    data.save_dataset(dataset, files.dataset(id))
    task = {field: getattr(dataset.task, field) for field in dataset.task.__dataclass_fields__}
    row = DatasetRow(
        id=id,
        name=name,
        format=format,
        sha256=dataset.sha256,
        task=task,
        splits={split: len(getattr(dataset, split)) for split in ("train", "selection", "test")},
        notes=[asdict(note) for note in dataset.notes] or None,
        status="ready",
        progress=1.0,
    )
    session.add(row)
    session.flush()
    return row


def register_profile(session: Session, body: Any, *, name: str | None) -> ProfileRow:
    """Read, check and keep latencies measured elsewhere; raises InvalidRequest naming the entry at fault."""
    profile = read_profile(json.dumps(body).encode())
    row = ProfileRow(
        id=queries.new_id("prf"), name=name or profile.name, body=profile.model_dump(mode="json"), status="ready"
    )
    session.add(row)
    session.flush()
    return row


def profile_of(session: Session, budget: Budget) -> Profile | None:
    """The uploaded profile a budget's device names, if it names one; raises for a device nobody knows."""
    if budget.device.startswith("prf_"):
        row = queries.require(session, ProfileRow, budget.device, field="budget.device")
        return Profile.model_validate(row.body)
    devices.get(budget.device, field="budget.device")
    return None


def resolve(session: Session, request: JobRequest) -> JobRequest:
    """The request with the student another job's candidate is, in its own words."""
    named = request.student
    if named is None or named.job is None or named.candidate is None:
        return request
    source: Job = queries.require(session, Job, named.job, field="student.job")
    row = queries.candidate(session, named.job, named.candidate, field="student.candidate")
    if row.state != "scored":
        raise InvalidRequest(f"candidate {named.candidate} has no score: {row.reason}", field="student.candidate")
    body = request.model_dump(mode="json")
    for field in ("teacher", "data"):
        # Strides, patches and heads follow the task, and the space `teacher` means eighths of one teacher.
        if source.request[field] != body[field]:
            raise InvalidRequest(
                f"the candidate was scored for another {field}; name the one of {named.job}: {source.request[field]}",
                field=field,
            )
    student = StudentSpec(space=row.space, architecture={name: int(v) for name, v in row.architecture.items()})
    return request.model_copy(update={"student": student})


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
    trials = [trial_of(row) for row in queries.candidates(session, job.id)]
    if trials and all(getattr(trial.cost, axis) is None for trial in trials):
        raise Conflict(f"the search of {job.id} did not look at {axis}; limit it in the budget or set search.trade")
    front_ = [choice.describe(trial) for trial in front(trials, axis)]
    return {"against": axis, "front": front_, "winner": winner}


def cancel(session: Session, job_id: str) -> Job:
    """Ask a job to stop; raises Conflict once it has ended."""
    job: Job = queries.require(session, Job, job_id)
    if not queries.request_cancel(session, job):
        raise Conflict(f"job {job_id} has already {job.status}")
    return job


def completed_upload(session: Session, upload_id: str, field: str) -> Upload:
    upload: Upload = queries.require(session, Upload, upload_id, field=field)
    if upload.status != "complete":
        raise Conflict(f"upload {upload_id} is not complete; POST /v1/uploads/{upload_id}:complete first", field=field)
    return upload


def task_of(row: DatasetRow) -> Task:
    """The task a stored data set defines."""
    task: Task = TypeAdapter(Task).validate_python(row.task)
    return task


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
    teacher_cost = None
    if isinstance(request.teacher, TimmTeacher):
        check_source(request.teacher, field="teacher")
    else:
        teacher_cost = _check_known_teacher(session, request.teacher, known.task)
    profile = profile_of(session, request.budget)
    if request.kind == "distill":
        return
    if request.search.space == "teacher":  # what it holds takes the network itself to tell
        return
    searched = choose(request.search.space, known.task, None, len(known.train))
    if choice.wants_latency(request):
        searched = choice.timed_spaces(request, searched, known.task, profile)
    story.possible(request, searched, known.task, limits(request.budget, teacher_cost))


@dataclass(frozen=True)
class _KnownData:
    """What the tables know of a data set: enough to check a request against."""

    task: Task
    train: range


def _known_data(session: Session, spec: DigitsData | DatasetData) -> _KnownData:
    if isinstance(spec, DatasetData):
        row = queries.require(session, DatasetRow, spec.id, field="data.id")
        return _KnownData(task_of(row), range(row.splits["train"]))
    digits = data.load(spec)
    return _KnownData(digits.task, range(len(digits.train)))


def _check_known_teacher(session: Session, spec: RegisteredTeacher, task: Task) -> Cost | None:
    row: TeacherRow = queries.require(session, TeacherRow, spec.id, field="teacher.id")
    if row.status == "refused":
        raise TeacherError(f"{spec.id} was refused: {(row.error or {}).get('detail')}", field="teacher.id")
    # An upload says itself what its head is, before any worker has looked at it.
    num_classes, in_chans = (row.source.get(name, getattr(row, name)) for name in ("num_classes", "in_chans"))
    if num_classes is not None and in_chans is not None:
        given = row.source.get("classes") if spec.classes is None else spec.classes
        _check_classes(row.source.get("class_names", row.class_names), num_classes, task, given, "teacher")
        _check_channels(in_chans, task, "teacher.id")
    return None if row.params is None or row.macs is None else Cost(row.params, row.macs)


def _check_classes(names: list[str] | None, num_classes: int, task: Task, given: ClassMap | None, field: str) -> None:
    """Hold what is known of a head against the data: how many classes, what they are called, and who is who."""
    if given is None and num_classes != task.classes:
        raise TeacherError(f"the teacher knows {num_classes} classes, the data has {task.classes}", field=field)
    if names:  # else a worker may find some in the teacher's own configuration
        order_of("the teacher", (tuple(names),), num_classes, task, given, field=field)


def _check_channels(in_chans: int, task: Task, field: str) -> None:
    if in_chans != task.in_chans:
        raise TeacherError(f"the teacher knows {in_chans} channels, the data has {task.in_chans}", field=field)
