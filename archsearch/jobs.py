"""The story of a job, top to bottom, as a durable workflow."""

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
from sqlalchemy.orm import Session, sessionmaker

from archsearch import arrival, data, export, intake, story
from archsearch.data.task import Dataset, Task
from archsearch.engine import step
from archsearch.errors import (
    ArchsearchError,
    Cancelled,
    TooManyAttempts,
)
from archsearch.hardware import measure_teacher
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
from archsearch.search import Trial
from archsearch.settings import Settings
from archsearch.store import queries
from archsearch.store.files import Files, sha256_of
from archsearch.store.models import (
    TERMINAL,
    Artifact,
    Event,
    Job,
    TeacherRow,
    now,
)
from archsearch.store.trials import candidate_of, trial_of
from archsearch.teachers import Teacher, check_teacher, load_teacher

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


def workflows(place: Workplace) -> Mapping[str, Callable[..., None]]:
    """What a worker runs, by the names `intake` enqueues."""
    return {
        "job": lambda job_id: run_job(place, job_id),
        "teacher": lambda id: run_teacher_check(place, id),
        "dataset": lambda id: arrival.read_dataset(place, id),
        "profile": lambda id: arrival.fit(place, id),
    }


def run_job(place: Workplace, job_id: str) -> None:
    """A job from start to end. Called again after a crash, it goes on: finished steps are skipped, and an
    unfinished one continues from its candidates or its checkpoint."""
    run = _begin(place, job_id)
    if run is None:
        return
    with run.outcome():
        kind = run.request.kind
        checked = step("validate", run.validate)
        result: dict[str, Any] = {"teacher": checked, "chosen": run.settle(checked)}
        chosen: dict[str, Any] = run.request.student.model_dump() if run.request.student else {}
        if kind != "distill":
            result["search"] = step("search", run.find)
            chosen = result["search"]["winner"]
        if run.request.verification is not None:
            result["verify"] = step("verify", run.verify, result["search"])
            chosen = result["verify"]["winner"]
        if kind != "search":
            result["student"] = step("distill", run.distil, chosen["space"], chosen["architecture"])
        run.succeed(step("export", run.finish, chosen["space"], chosen["architecture"], result))


def run_teacher_check(place: Workplace, teacher_id: str) -> None:
    """Load a teacher strictly and, where it came with data, measure it."""
    with place.sessions.begin() as session:
        unchecked = (TeacherRow.id == teacher_id, TeacherRow.status == "checking")
        session.execute(update(TeacherRow).where(*unchecked).values(attempt=TeacherRow.attempt + 1))
        row = session.get(TeacherRow, teacher_id)
    if row is None or row.status != "checking":
        return
    try:
        if row.attempt > place.settings.max_attempts:
            raise TooManyAttempts(f"checked {row.attempt - 1} times: the worker died each time; see its log")
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
    known: dict[str, Any] = {
        "num_classes": teacher.num_classes,
        "in_chans": teacher.in_chans,
        "sha256": teacher.sha256,
        "class_names": list(teacher.namings[0]) if teacher.namings else None,
    }
    if dataset is None:
        return known
    checked, cost = check_teacher(teacher, dataset), measure_teacher(teacher, dataset.task)
    notes = [asdict(note) for note in (*teacher.notes, *checked.notes)]
    measured = {"params": cost.params, "macs": cost.macs, "selection_acc": checked.measured}
    return {**known, **measured, "notes": notes or None}


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
        run = _Run(place, job_id, job.attempt, intake.resolve(session, parse_request(job.request)))
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
        self.cache = place.files.evidence
        self.reported_at, self.reported_phase = 0.0, ""

    @cached_property
    def story(self) -> story.Story:
        dataset = open_data(self.place.files, self.request.data)
        with self.place.sessions() as session:
            profile = intake.profile_of(session, self.request.budget)
        return story.Story(self.request, self._teacher(dataset.task), dataset, self, profile)

    def _teacher(self, task: Task) -> Teacher:
        spec = self.request.teacher
        if not isinstance(spec, RegisteredTeacher):
            return load_teacher(spec, task=task)
        with self.place.sessions() as session:
            row = queries.require(session, TeacherRow, spec.id, field="teacher.id")
        return load_teacher(*source_of(self.place.files, row), task=task, classes=spec.classes)

    # The phases. Each is a step of the workflow: its result is kept, and it is not run again once it has one.

    def validate(self) -> dict[str, Any]:
        self.report({"phase": "validating"})
        return story.validate(self.story)

    def settle(self, checked: dict[str, Any]) -> dict[str, str]:
        """Take over what validation settled of the request; returns what it had left open, and why that is as it is."""
        self.story = story.settled(self.story, checked)
        self.request = self.story.request
        return dict(self.story.chosen)

    def find(self) -> dict[str, Any]:
        return {**story.find(self.story), "seconds": self._seconds("searching")}

    def verify(self, found: dict[str, Any]) -> dict[str, Any]:
        return story.check(self.story, found)

    def distil(self, space: str, architecture: Architecture) -> dict[str, Any]:
        folder = self.folder / "attempts" / str(self.attempt) / "student"
        shutil.rmtree(folder, ignore_errors=True)
        result = story.distil(self.story, self.story.student(space, architecture), folder)
        return {**result, "seconds": self._seconds("distilling"), "folder": self.place.files.relative(folder)}

    def finish(self, space: str, architecture: Architecture, result: dict[str, Any]) -> dict[str, Any]:
        chosen, student = self.story.student(space, architecture), dict(result.get("student", {}))
        folder = self.folder / "attempts" / str(self.attempt) / "manifest"
        if "folder" in student:
            folder = self.place.files.artifact(student.pop("folder"))
            last = story.finish(self.story, chosen, folder, student)
            result = {**result, "student": last["student"], "teacher": {**result["teacher"], **last["teacher"]}}
        result = {**result, "data": story.describe_data(self.story.dataset), **story.doubts(self)}
        body = {"job": self.job_id, "request": self.request.model_dump(mode="json"), **result}
        model = chosen.space.model(chosen.architecture, self.story.dataset.task)
        names = [export.write_manifest(folder, body, model).name]
        if student:
            names += [name for name in export.FILES if (folder / name).is_file()] + [export.pack(folder).name]
        self._publish([folder / name for name in names])
        return result

    # The ledger.

    def trials(self) -> Sequence[Trial]:
        with self.place.sessions() as session:
            return [trial_of(row) for row in queries.candidates(session, self.job_id)]

    def add(self, trial: Trial, report: dict[str, Any]) -> None:
        with self._writing() as (session, job):
            session.add(candidate_of(self.job_id, self.attempt, trial))
            self._note(session, job, report)

    def report(self, report: dict[str, Any]) -> None:
        with self._writing() as (session, job):
            self._note(session, job, report)

    def warn(self, code: str, detail: str) -> None:
        if code not in (warning["code"] for warning in self.warnings()):
            with self._writing() as (session, _):
                queries.add_event(session, self.job_id, "warning", {"code": code, "detail": detail})

    def warnings(self) -> Sequence[dict[str, str]]:
        with self.place.sessions() as session:
            return queries.warnings(session, self.job_id)

    def succeed(self, result: dict[str, Any]) -> None:
        with self._writing() as (session, _):
            self.close(session, "succeeded", result=result)
        self._clear()

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

    def _clear(self) -> None:
        """Remove what a later attempt would have gone on from: there is none any more."""
        for done in ("checkpoints", "baseline", "verify"):
            shutil.rmtree(self.folder / done, ignore_errors=True)

    def _end(self, status: str, error: dict[str, Any]) -> None:
        with self.place.sessions.begin() as session:
            job = session.get(Job, self.job_id)
            if job is not None and job.attempt == self.attempt and not queries.is_over(job):
                self.close(session, status, error=error)
                self._clear()

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
        overall = _overall(self.request, phase, progress or 0.0)
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
_SPANS = {
    "validating": (0.0, 0.02),
    "searching": (0.02, 0.3),
    "verifying": (0.3, 0.5),
    "distilling": (0.3, 0.98),
    "exporting": (0.98, 1.0),
}


def _overall(request: JobRequest, phase: str, progress: float) -> float:
    low, high = _SPANS[phase]
    if phase == "distilling" and request.kind == "distill":
        low = 0.02
    if phase == "distilling" and request.verification is not None:
        low = 0.5
    if request.kind == "search" and phase == ("searching" if request.verification is None else "verifying"):
        high = 0.98
    return low + (high - low) * progress


def _internal(error: Exception) -> dict[str, Any]:
    """A failure nobody foresaw, as a problem like any other; the traceback is in the worker's log."""
    problem = ArchsearchError(f"{type(error).__name__}: {error}").problem()
    return {**problem, "code": "internal_error", "title": "The worker failed", "retryable": True}
