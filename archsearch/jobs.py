"""The story of a job, top to bottom, as a durable workflow."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import update
from sqlalchemy.orm import Session

from archsearch import arrival, bounded, data, export, intake, story
from archsearch.data.task import Dataset, Task
from archsearch.engine import patiently, pause, step
from archsearch.errors import (
    Cancelled,
    TooManyAttempts,
    Unavailable,
)
from archsearch.examine import fetch
from archsearch.ledger.rows import RowLedger
from archsearch.request import (
    Architecture,
    DatasetData,
    JobRequest,
    OfJob,
    RegisteredTeacher,
    TimmTeacher,
    UploadedTeacher,
    parse_request,
)
from archsearch.store import queries
from archsearch.store.files import Files, sha256_of
from archsearch.store.models import (
    TERMINAL,
    Artifact,
    Job,
    TeacherRow,
    now,
)
from archsearch.teachers import Teacher, at_best_size, at_hand, load_teacher
from archsearch.workplace import Workplace

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
# How long a job waits before it asks again for what is away, such as the hub.
_AWAY_S = (2.0, 10.0, 30.0)


def workflows(place: Workplace) -> Mapping[str, Callable[..., None]]:
    """What a worker runs, by the names `intake` enqueues."""
    return {
        "job": lambda job_id: run_job(place, job_id),
        "teacher": lambda id: arrival.check_teacher(place, id),
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
        result: dict[str, Any] = {"teacher": checked, "chosen": run.ledger.lasting(lambda: run.settle(checked))}
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
        teacher = at_best_size(self._teacher(dataset.task), dataset)
        return story.Story(self.request, teacher, dataset, self.ledger, profile)

    def _teacher(self, task: Task) -> Teacher:
        spec = self.request.teacher
        if not isinstance(spec, RegisteredTeacher):
            assert not isinstance(spec, OfJob)  # filled in when the job was queued
            self._fetch(spec)
            return load_teacher(spec, task=task)
        row = self.ledger.read(lambda session: queries.require(session, TeacherRow, spec.id, field="teacher.id"))
        source, weights = source_of(self.place.files, row)
        self._fetch(source)
        return load_teacher(source, weights, task=task, classes=spec.classes, input_size=spec.input_size)

    def _fetch(self, source: object) -> None:
        """Download what has to be, in a process that ends when the job is cancelled, whatever the hub does."""
        if not isinstance(source, TimmTeacher) or at_hand(source.name):
            return
        settings = self.place.settings
        bounded.run(
            fetch,
            {"name": source.name},
            what=f"fetching {source.name}",
            limit_s=settings.check_time_limit_s,
            cancelled=self._heartbeat,
            advice="set ARCHSEARCH_CHECK_TIME_LIMIT_S higher where the network is slow",
        )

    def _heartbeat(self) -> bool:
        """Say that the job lives; raises Cancelled, and so answers the question whether it was cancelled."""
        self.ledger.report({"phase": "validating"})
        return False

    def step(self, name: str, phase: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """A phase as a step of the workflow: its result is kept, and it is not run again once it has one."""
        return step(name, lambda: self.ledger.lasting(lambda: phase(*args, **kwargs)))

    # The phases.

    def validate(self) -> dict[str, Any]:
        """Validation, tried again for a while where the hub is away."""
        for wait_s in _AWAY_S:
            self._heartbeat()
            try:
                return story.validate(self.story)
            except Unavailable as error:
                log.warning("job %s: %s; asking again in %g s", self.job_id, error, wait_s)
            self._wait(wait_s)
        return story.validate(self.story)

    def _wait(self, seconds: float) -> None:
        """Do nothing for a while; raises Cancelled meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            pause(min(1.0, left))
            self._heartbeat()

    def settle(self, checked: dict[str, Any]) -> dict[str, str]:
        """Take over what validation settled of the request; returns what it had left open, and why that is as it is."""
        self.story = story.settled(self.story, checked)
        self.request = self.story.request
        return dict(self.story.chosen)

    def find(self) -> dict[str, Any]:
        return {**story.find(self.story), "seconds": self.ledger.seconds("searching")}

    def verify(self, found: dict[str, Any]) -> dict[str, Any]:
        return story.verify(self.story, found)

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
