"""The story of a job, top to bottom, as a durable workflow."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from archsearch import arrival, data, export, intake, story
from archsearch.data.task import Dataset, Task
from archsearch.engine import patiently, step
from archsearch.errors import (
    ArchsearchError,
    Cancelled,
    TooManyAttempts,
)
from archsearch.hardware import measure_teacher
from archsearch.ledger import RowLedger, unforeseen
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
from archsearch.settings import Settings
from archsearch.store import queries
from archsearch.store.files import Files, sha256_of
from archsearch.store.models import (
    TERMINAL,
    Artifact,
    Job,
    TeacherRow,
    now,
)
from archsearch.teachers import Teacher, check_teacher, load_teacher

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


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
    run = patiently(lambda: _begin(place, job_id), f"job {job_id}")
    if run is None:
        return
    log.info("job %s: attempt %s starts", job_id, run.attempt)
    with run.ledger.beating(), run.ledger.outcome():
        kind = run.request.kind
        checked = run.step("validate", run.validate)
        result: dict[str, Any] = {"teacher": checked, "chosen": run.settle(checked)}
        chosen: dict[str, Any] = run.request.student.model_dump() if run.request.student else {}
        if kind != "distill":
            result["search"] = run.step("search", run.find)
            chosen = result["search"]["winner"]
        if run.request.verification is not None:
            result["verify"] = run.step("verify", run.verify, result["search"])
            chosen = result["verify"]["winner"]
        if kind != "search":
            result["student"] = run.step("distill", run.distil, chosen["space"], chosen["architecture"])
            if not run.has(result["student"]):  # of a job that failed long ago, and made room since
                result["student"] = run.step("distill anew", run.distil, chosen["space"], chosen["architecture"])
        run.ledger.succeed(run.step("export", run.finish, chosen["space"], chosen["architecture"], result))


def run_teacher_check(place: Workplace, teacher_id: str) -> None:
    """Load a teacher strictly and, where it came with data, measure it."""
    what = f"teacher {teacher_id}"
    row = patiently(lambda: _begin_check(place, teacher_id), what)
    if row is None or row.status != "checking":
        return
    try:
        if row.attempt > place.settings.max_attempts:
            raise TooManyAttempts(f"checked {row.attempt - 1} times: the worker died each time; see its log")
        found = {"status": "ready", **patiently(lambda: _check(place.files, row), what)}
    except ArchsearchError as error:
        found = {"status": "refused", "error": error.problem()}
    except Exception as error:  # nothing a teacher does may stop the worker; the row carries what happened
        log.exception("checking teacher %s", teacher_id)
        found = {"status": "refused", "error": unforeseen(error)}
    patiently(lambda: _end_check(place, teacher_id, found), what)
    log.info("%s is %s", what, found["status"])


def _begin_check(place: Workplace, teacher_id: str) -> TeacherRow | None:
    with place.sessions.begin() as session:
        unchecked = (TeacherRow.id == teacher_id, TeacherRow.status == "checking")
        session.execute(update(TeacherRow).where(*unchecked).values(attempt=TeacherRow.attempt + 1))
        return session.get(TeacherRow, teacher_id)


def _end_check(place: Workplace, teacher_id: str, found: dict[str, Any]) -> None:
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
        job.worker, job.waiting = place.worker, None
        job.started_at = job.started_at or now()
        job.heartbeat_at = now()
        run = _Run(place, job_id, job.attempt)
        if job.status == "cancelling":
            run.ledger.close(session, "cancelled", error=Cancelled("cancelled on request").problem())
            return None
        if job.strikes > place.settings.max_attempts:
            error = TooManyAttempts(
                f"started {job.strikes - 1} times without getting further: its worker died each time; see its log"
            )
            run.ledger.close(session, "failed", error=error.problem())
            return None
        job.status = "running"
        queries.add_event(session, job_id, "started", {"attempt": job.attempt, "worker": place.worker})
        return run


class _Run:
    """One attempt at a job. What it needs is read when it is needed, so that what is wrong with it ends the job."""

    def __init__(self, place: Workplace, job_id: str, attempt: int) -> None:
        self.place, self.job_id, self.attempt = place, job_id, attempt
        self.ledger = RowLedger(place.sessions, place.files, job_id, attempt, self._overall)

    @cached_property
    def request(self) -> JobRequest:
        def asked(session: Session) -> JobRequest:
            return intake.resolve(session, parse_request(session.get_one(Job, self.job_id).request))

        return self.ledger.read(asked)

    @cached_property
    def story(self) -> story.Story:
        dataset = open_data(self.place.files, self.request.data)
        profile = self.ledger.read(lambda session: intake.profile_of(session, self.request.budget))
        return story.Story(self.request, self._teacher(dataset.task), dataset, self.ledger, profile)

    def _teacher(self, task: Task) -> Teacher:
        spec = self.request.teacher
        if not isinstance(spec, RegisteredTeacher):
            return load_teacher(spec, task=task)
        row = self.ledger.read(lambda session: queries.require(session, TeacherRow, spec.id, field="teacher.id"))
        return load_teacher(*source_of(self.place.files, row), task=task, classes=spec.classes)

    def step(self, name: str, phase: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """A phase as a step of the workflow: its result is kept, and it is not run again once it has one."""
        return step(name, lambda: self.ledger.lasting(lambda: phase(*args, **kwargs)))

    # The phases.

    def validate(self) -> dict[str, Any]:
        self.ledger.report({"phase": "validating"})
        return story.validate(self.story)

    def settle(self, checked: dict[str, Any]) -> dict[str, str]:
        """Take over what validation settled of the request; returns what it had left open, and why that is as it is."""
        self.story = story.settled(self.story, checked)
        self.request = self.story.request
        return dict(self.story.chosen)

    def find(self) -> dict[str, Any]:
        return {**story.find(self.story), "seconds": self.ledger.seconds("searching")}

    def verify(self, found: dict[str, Any]) -> dict[str, Any]:
        return story.check(self.story, found)

    def distil(self, space: str, architecture: Architecture) -> dict[str, Any]:
        folder = self._own_folder / "student"
        shutil.rmtree(folder, ignore_errors=True)
        result = story.distil(self.story, self.story.student(space, architecture), folder)
        return {**result, "seconds": self.ledger.seconds("distilling"), "folder": self.place.files.relative(folder)}

    def has(self, student: dict[str, Any]) -> bool:
        """Whether the student of an earlier attempt is still there; there is no room in the row for its weights."""
        return self.place.files.artifact(student["folder"]).is_dir()

    def finish(self, space: str, architecture: Architecture, result: dict[str, Any]) -> dict[str, Any]:
        chosen, student = self.story.student(space, architecture), dict(result.get("student", {}))
        folder = self._own_folder / "manifest"
        if "folder" in student:
            folder = self.place.files.artifact(student.pop("folder"))
            last = story.finish(self.story, chosen, folder, student)
            result = {**result, "student": last["student"], "teacher": {**result["teacher"], **last["teacher"]}}
        result = {**result, "data": story.describe_data(self.story.dataset), **story.doubts(self.ledger)}
        body = {"job": self.job_id, "request": self.request.model_dump(mode="json"), **result}
        model = chosen.space.model(chosen.architecture, self.story.dataset.task)
        names = [export.write_manifest(folder, body, model).name]
        if student:
            names += [name for name in export.FILES if (folder / name).is_file()] + [export.pack(folder).name]
        described = [self._describe(folder / name) for name in names]
        self.ledger.publish(lambda: [Artifact(id=queries.new_id("art"), **each) for each in described])
        return result

    @property
    def _own_folder(self) -> Path:
        return self.ledger.folder / "attempts" / str(self.attempt)

    def _describe(self, path: Path) -> dict[str, Any]:
        return {
            "job_id": self.job_id,
            "name": path.name,
            "media_type": export.MEDIA_TYPES[path.name],
            "size_bytes": path.stat().st_size,
            "sha256": sha256_of(path),
            "path": self.place.files.relative(path),
        }

    def _overall(self, phase: str, progress: float) -> float:
        return _overall(self.request, phase, progress)


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
