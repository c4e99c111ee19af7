"""The story of a job, top to bottom, as a durable workflow; and the moment a request becomes one."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from archsearch import data, export, story
from archsearch.data.task import Dataset, Task
from archsearch.engine import Engine, step
from archsearch.errors import (
    ArchsearchError,
    Cancelled,
    Conflict,
    InvalidRequest,
    TeacherError,
    TooManyAttempts,
)
from archsearch.hardware import limits, measure_teacher, require_possible
from archsearch.request import (
    Architecture,
    DatasetData,
    DigitsData,
    JobRequest,
    RegisteredTeacher,
    TimmTeacher,
    UploadedTeacher,
    parse_request,
)
from archsearch.search import Trial, key
from archsearch.settings import Settings
from archsearch.spaces import Cost, spaces
from archsearch.store import queries
from archsearch.store.files import Files, sha256_of
from archsearch.store.models import (
    TERMINAL,
    Artifact,
    Candidate,
    DatasetRow,
    Event,
    Job,
    TeacherRow,
    Upload,
    now,
)
from archsearch.teachers import Teacher, check_source, check_teacher, load_teacher

log = logging.getLogger(__name__)

# A progress event at most this often; the trials themselves are all kept, whatever is reported of them.
_REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class Workplace:
    """What a worker works with."""

    sessions: sessionmaker[Session]
    files: Files
    settings: Settings
    worker: str


# ---------------------------------------------------------------------------------------------- asking for work


def submit(session: Session, engine: Engine, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
    """Check a request as far as that goes without torch, and queue it in the caller's transaction.

    Raises:
        InvalidRequest: A field is wrong; nothing was queued.
        Conflict: The idempotency key was used for another request.
    """
    body = request.model_dump(mode="json")
    if idempotency_key is not None and (earlier := queries.job_by_idempotency_key(session, idempotency_key)):
        if earlier.request != body:
            raise InvalidRequest("was used for another request; choose a new one", field="Idempotency-Key")
        return earlier
    _check_remote(session, request)
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
    sha256 = None
    if isinstance(source, UploadedTeacher):
        from archsearch.teachers import check_weights_file

        upload = completed_upload(session, source.upload, "source.upload")
        check_weights_file(files.upload(upload.id), field="source.upload")
        sha256 = upload.sha256
    if isinstance(data, DatasetData):
        row = queries.require(session, DatasetRow, data.id, field="data.id")
        if isinstance(source, UploadedTeacher):
            _check_head(source.num_classes, source.in_chans, task_of(row), "source")
    id = queries.new_id("tch")
    body = source.model_dump(mode="json")
    teacher = TeacherRow(
        id=id, name=name, source=body, sha256=sha256, data=None if data is None else data.model_dump(mode="json")
    )
    session.add(teacher)
    session.flush()
    engine.enqueue(session, "teacher", id, id)
    return teacher


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
    if request.kind != "distill":
        space = spaces.get(request.search.space, field="search.space")
        require_possible(space, known.task, limits(request.budget, teacher_cost), request.budget)


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
    if row.num_classes is not None and row.in_chans is not None:
        _check_head(row.num_classes, row.in_chans, task, "teacher.id")
    return None if row.params is None or row.macs is None else Cost(row.params, row.macs)


def _check_head(num_classes: int, in_chans: int, task: Task, field: str) -> None:
    for noun, has, wants in (("classes", num_classes, task.classes), ("channels", in_chans, task.in_chans)):
        if has != wants:
            raise TeacherError(f"the teacher knows {has} {noun}, the data has {wants}", field=field)


# ------------------------------------------------------------------------------------------------- doing the work


def workflows(place: Workplace) -> Mapping[str, Callable[..., None]]:
    """What a worker runs, by the names `submit` and `register_teacher` enqueue."""
    return {"job": lambda job_id: run_job(place, job_id), "teacher": lambda id: run_teacher_check(place, id)}


def run_job(place: Workplace, job_id: str) -> None:
    """A job from start to end. Called again after a crash, it goes on: finished steps are skipped, and an
    unfinished one continues from its candidates or its checkpoint."""
    run = _begin(place, job_id)
    if run is None:
        return
    with run.outcome():
        kind = run.request.kind
        result: dict[str, Any] = {"teacher": step("validate", run.validate)}
        architecture: Architecture = dict(run.request.student.architecture) if run.request.student else {}
        if kind != "distill":
            result["search"] = step("search", run.find)
            architecture = result["search"]["winner"]["architecture"]
        if kind != "search":
            result["student"] = step("distill", run.distil, architecture)
        run.succeed(step("export", run.finish, architecture, result))


def run_teacher_check(place: Workplace, teacher_id: str) -> None:
    """Load a teacher strictly and, where it came with data, measure it."""
    with place.sessions() as session:
        row = session.get(TeacherRow, teacher_id)
    if row is None or row.status != "checking":
        return
    try:
        found = {"status": "ready", **_check(place.files, row)}
    except ArchsearchError as error:
        found = {"status": "refused", "error": error.problem()}
    except Exception as error:  # nothing a teacher does may stop the worker; the row carries what happened
        log.exception("checking teacher %s", teacher_id)
        found = {"status": "refused", "error": _internal(error)}
    with place.sessions.begin() as session:
        session.execute(update(TeacherRow).where(TeacherRow.id == teacher_id).values(**found))


def _check(files: Files, row: TeacherRow) -> dict[str, Any]:
    """What a worker finds out about a teacher."""
    dataset = None
    if row.data is not None:
        spec: DigitsData | DatasetData = TypeAdapter(DigitsData | DatasetData).validate_python(row.data)
        dataset = open_data(files, spec)
    teacher = load_teacher(*source_of(files, row), task=dataset.task if dataset else None)
    known = {"num_classes": teacher.num_classes, "in_chans": teacher.in_chans, "sha256": teacher.sha256}
    if dataset is None:
        return known
    measured = check_teacher(teacher, dataset)
    return {**known, **asdict(measure_teacher(teacher, dataset.task)), "selection_acc": measured}


def open_data(files: Files, spec: Any) -> Dataset:
    """The data a request of this service names."""
    if isinstance(spec, DatasetData):
        return data.open_dataset(files.dataset(spec.id))
    return data.load(spec)


def source_of(files: Files, row: TeacherRow) -> tuple[TimmTeacher | UploadedTeacher, Path | None]:
    """Where a registered teacher comes from, and its weights file if it was uploaded."""
    if row.source["kind"] == "upload":
        source = UploadedTeacher(**row.source)
        return source, files.upload(source.upload)
    return TimmTeacher(**row.source), None


def _begin(place: Workplace, job_id: str) -> _Run | None:
    """Start an attempt, unless the job is over, was cancelled, or has brought down too many workers."""
    with place.sessions.begin() as session:
        unfinished = (Job.id == job_id, Job.status.not_in(TERMINAL))
        # Written before it is read, so that a cancellation comes either before this or after it.
        next_attempt = update(Job).where(*unfinished).values(attempt=Job.attempt + 1, strikes=Job.strikes + 1)
        if not session.execute(next_attempt).rowcount:  # type: ignore[attr-defined]
            return None
        job = session.get_one(Job, job_id)
        job.worker = place.worker
        job.started_at = job.started_at or now()
        job.heartbeat_at = now()
        run = _Run(place, job_id, job.attempt, parse_request(job.request))
        if job.status == "cancelling":
            run.close(session, "cancelled", error=Cancelled("cancelled on request").problem())
            return None
        if job.strikes > place.settings.max_attempts:
            error = TooManyAttempts(
                f"started {job.strikes - 1} times without getting further: its worker died each time; see its log"
            )
            run.close(session, "failed", error=error.problem())
            return None
        job.status = "running"
        queries.add_event(session, job_id, "started", {"attempt": job.attempt, "worker": place.worker})
        return run


class _Superseded(Exception):
    """Another attempt has taken this job over; this one must not write another word."""


class _Run:
    """One attempt at a job, and the ledger its story writes to."""

    def __init__(self, place: Workplace, job_id: str, attempt: int, request: JobRequest) -> None:
        self.place, self.job_id, self.attempt, self.request = place, job_id, attempt, request
        self.folder = place.files.job(job_id)
        self.reported_at, self.reported_phase = 0.0, ""

    @cached_property
    def story(self) -> story.Story:
        dataset = open_data(self.place.files, self.request.data)
        return story.Story(self.request, self._teacher(dataset.task), dataset, self)

    def _teacher(self, task: Task) -> Teacher:
        spec = self.request.teacher
        if not isinstance(spec, RegisteredTeacher):
            return load_teacher(spec, task=task)
        with self.place.sessions() as session:
            row = queries.require(session, TeacherRow, spec.id, field="teacher.id")
        return load_teacher(*source_of(self.place.files, row))

    # The phases. Each is a step of the workflow: its result is kept, and it is not run again once it has one.

    def validate(self) -> dict[str, Any]:
        self.report({"phase": "validating"})
        return story.validate(self.story)

    def find(self) -> dict[str, Any]:
        return {**story.find(self.story), "seconds": self._seconds("searching")}

    def distil(self, architecture: Architecture) -> dict[str, Any]:
        folder = self.folder / "attempts" / str(self.attempt) / "student"
        shutil.rmtree(folder, ignore_errors=True)
        result = story.distil(self.story, architecture, folder)
        return {**result, "seconds": self._seconds("distilling"), "folder": self.place.files.relative(folder)}

    def finish(self, architecture: Architecture, result: dict[str, Any]) -> dict[str, Any]:
        student = dict(result.get("student", {}))
        folder = self.folder / "attempts" / str(self.attempt) / "manifest"
        if "folder" in student:
            folder = self.place.files.artifact(student.pop("folder"))
            last = story.finish(self.story, architecture, folder, student)
            result = {**result, "student": last["student"], "teacher": {**result["teacher"], **last["teacher"]}}
        result["data"] = story.describe_data(self.story.dataset)
        body = {"job": self.job_id, "request": self.request.model_dump(mode="json"), **result}
        names = [export.write_manifest(folder, body, self.story.space).name]
        if student:
            names += [export.WEIGHTS, export.CONFIG, export.pack(folder).name]
        self._publish([folder / name for name in names])
        return result

    # The ledger.

    def trials(self) -> Sequence[Trial]:
        with self.place.sessions() as session:
            return [_trial(row) for row in queries.candidates(session, self.job_id)]

    def add(self, trial: Trial, report: dict[str, Any]) -> None:
        with self._writing() as (session, job):
            session.add(_candidate(self.job_id, self.attempt, trial))
            self._note(session, job, report)

    def report(self, report: dict[str, Any]) -> None:
        with self._writing() as (session, job):
            self._note(session, job, report)

    def succeed(self, result: dict[str, Any]) -> None:
        with self._writing() as (session, _):
            self.close(session, "succeeded", result=result)
        (self.folder / "checkpoint.safetensors").unlink(missing_ok=True)

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Whatever ends the attempt is written into the job's row; nothing an attempt raises stops the worker."""
        try:
            yield
        except _Superseded:
            log.warning("job %s: attempt %s was superseded", self.job_id, self.attempt)
        except Cancelled as error:
            self._end("cancelled", error.problem())
        except ArchsearchError as error:
            self._end("failed", error.problem())
        except Exception as error:
            log.exception("job %s failed", self.job_id)
            self._end("failed", _internal(error))

    def close(self, session: Session, status: str, *, result: Any = None, error: Any = None) -> None:
        values: dict[str, Any] = {
            "status": status,
            "finished_at": now(),
            "result": result,
            "error": error,
            "eta_s": None,
        }
        if status == "succeeded":
            values["progress"] = 1.0
        session.execute(update(Job).where(Job.id == self.job_id).values(**values))
        queries.add_event(session, self.job_id, "done", {"status": status, "error": error})

    def _end(self, status: str, error: dict[str, Any]) -> None:
        with self.place.sessions.begin() as session:
            job = session.get(Job, self.job_id)
            if job is not None and job.attempt == self.attempt and not queries.is_over(job):
                self.close(session, status, error=error)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Session, Job]]:
        """A transaction that only the current attempt of a job still wanted may commit."""
        with self.place.sessions.begin() as session:
            mine = (Job.id == self.job_id, Job.attempt == self.attempt)
            if not session.execute(update(Job).where(*mine).values(heartbeat_at=now())).rowcount:  # type: ignore[attr-defined]
                raise _Superseded
            job = session.get_one(Job, self.job_id)
            if job.status == "cancelling":
                raise Cancelled("cancelled on request")
            yield session, job

    def _note(self, session: Session, job: Job, report: dict[str, Any]) -> None:
        phase, progress = report["phase"], report.get("progress")
        job.phase, job.eta_s = phase, report.get("eta_s")
        overall = _overall(self.request.kind, phase, progress or 0.0)
        if overall > job.progress:
            job.progress, job.strikes = overall, 0
        new_phase = phase != self.reported_phase
        if new_phase:
            queries.add_event(session, self.job_id, "phase", {"phase": phase, "attempt": self.attempt})
        # Accuracies and a phase's end are worth an event of their own however fast they come.
        worth = report.get("selection_acc") is not None or progress == 1.0
        if progress is not None and (new_phase or worth or time.monotonic() - self.reported_at > _REPORT_EVERY_S):
            queries.add_event(session, self.job_id, "progress", report)
            self.reported_at = time.monotonic()
        self.reported_phase = phase

    def _seconds(self, phase: str) -> float:
        """Wall time since the job first entered the phase, whatever happened in between."""
        with self.place.sessions() as session:
            events = queries.events_after(session, self.job_id, 0, limit=100_000)
            first: Event = next(event for event in events if event.type == "phase" and event.data["phase"] == phase)
        return (now() - first.at).total_seconds()

    def _publish(self, paths: Sequence[Path]) -> None:
        with self._writing() as (session, _):
            for row in queries.artifacts(session, self.job_id):
                session.delete(row)
            session.flush()
            for path in paths:
                session.add(
                    Artifact(
                        id=queries.new_id("art"),
                        job_id=self.job_id,
                        name=path.name,
                        media_type=export.MEDIA_TYPES[path.name],
                        size_bytes=path.stat().st_size,
                        sha256=sha256_of(path),
                        path=self.place.files.relative(path),
                    )
                )


# Shares of a job's progress bar: distillation is nearly all of the time.
_SPANS = {"validating": (0.0, 0.02), "searching": (0.02, 0.3), "distilling": (0.3, 0.98), "exporting": (0.98, 1.0)}


def _overall(kind: str, phase: str, progress: float) -> float:
    low, high = _SPANS[phase]
    if kind == "distill" and phase == "distilling":
        low = 0.02
    if kind == "search" and phase == "searching":
        high = 0.98
    return low + (high - low) * progress


def _candidate(job_id: str, attempt: int, trial: Trial) -> Candidate:
    values = asdict(trial)
    cost = values.pop("cost")
    return Candidate(job_id=job_id, attempt=attempt, architecture_key=key(trial.architecture), **cost, **values)


def _trial(row: Candidate) -> Trial:
    return Trial(
        number=row.number,
        architecture=dict(row.architecture),
        cost=Cost(row.params, row.macs),
        state=row.state,  # type: ignore[arg-type]
        score=row.score,
        proxies=row.proxies,
        votes=row.votes,
        reason=row.reason,
        seconds=row.seconds,
    )


def _internal(error: Exception) -> dict[str, Any]:
    """A failure nobody foresaw, as a problem like any other; the traceback is in the worker's log."""
    problem = ArchsearchError(f"{type(error).__name__}: {error}").problem()
    return {**problem, "code": "internal_error", "title": "The worker failed", "retryable": True}
