"""A job's rows as one attempt at it writes them: what happened is kept, however long the database is away."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from archsearch import export
from archsearch.engine import StartAgain, pause, step
from archsearch.errors import ArchsearchError, Cancelled
from archsearch.ledger.ledger import Report
from archsearch.outfolder import STUDENTS
from archsearch.patience import outlast, passing
from archsearch.search import Trial
from archsearch.spaces import Recipe
from archsearch.store import queries
from archsearch.store.files import Files, sha256_of
from archsearch.store.models import Artifact, Candidate, Job, now
from archsearch.store.trials import candidate_of, trial_of

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger(__name__)

# A progress event at most this often; the trials themselves are all kept, whatever is reported of them.
_REPORT_EVERY_S = 0.5
# How often a row says that its attempt is alive, also where a step has nothing to report for minutes.
HEARTBEAT_S = 10.0
# What a later attempt goes on from, in the job's folder.
_RESUMED_FROM = ("checkpoints", "baseline", "verify", STUDENTS)


class Superseded(Exception):
    """Another attempt has taken this job over, or it is over; this one must not write another word."""


class RowLedger:
    """The ledger of one attempt.

    A transaction that fails for a reason that passes by itself is tried again until it succeeds. It may have been
    committed all the same, when the connection broke in the commit; so each can be done twice.
    """

    def __init__(self, sessions: sessionmaker[Session], files: Files, job_id: str, attempt: int) -> None:
        self.job_id, self.attempt = job_id, attempt
        self.folder, self.cache = files.job(job_id), files.evidence
        self._sessions, self._files = sessions, files
        self._own = self.folder / "attempts" / str(attempt)
        self._spans: Mapping[str, tuple[float, float]] = {}
        # Students beside the first that were published, by what their files' names begin with.
        self._beside: set[str] = set()
        self._reported_at = 0.0
        self._phase: tuple[str, int | None] = ("", None)

    # What the story asks for.

    def once(self, name: str, phase: Callable[P, Report], /, *args: P.args, **kwargs: P.kwargs) -> Report:
        """A phase as a step of the workflow: its result is kept, and it is not run again once it has one."""
        return step(name, lambda: self.lasting(lambda: phase(*args, **kwargs)))

    def trials(self) -> Sequence[Trial]:
        return self.read(lambda session: [trial_of(row) for row in queries.candidates(session, self.job_id)])

    def add(self, trial: Trial, report: dict[str, Any]) -> None:
        def keep(session: Session, job: Job) -> None:
            if session.get(Candidate, (self.job_id, trial.number)) is None:
                session.add(candidate_of(self.job_id, self.attempt, trial))

        self._write(keep)
        self.report(report)

    def report(self, report: dict[str, Any]) -> None:
        new_phase, event = _stage(report) != self._phase, self._is_worth_an_event(report)
        try:
            self._write(lambda session, job: self._note(session, job, report, new_phase, event))
        except (Cancelled, Superseded):
            raise
        except Exception:  # something about the report itself: no reason to lose what it reports of
            log.exception("job %s: a report could not be kept", self.job_id)
            return
        # Not before it is there: what failed is noted once more.
        if new_phase:
            log.info("job %s: %s", self.job_id, report["phase"])
        self._phase = _stage(report)
        self._reported_at = time.monotonic() if event else self._reported_at

    def warn(self, code: str, detail: str, student: int | None = None) -> None:
        warning = {"code": code, "detail": detail, **({} if student is None else {"student": student})}

        def keep(session: Session, job: Job) -> None:
            told = queries.warnings(session, self.job_id)
            if (code, student) not in ((one["code"], one.get("student")) for one in told):
                queries.add_event(session, self.job_id, "warning", warning)

        self._write(keep)

    def warnings(self) -> Sequence[dict[str, str | int]]:
        return self.read(lambda session: queries.warnings(session, self.job_id))

    def expect(self, spans: Mapping[str, tuple[float, float]]) -> None:
        self._spans = spans

    def seconds(self, phase: str, student: int | None = None) -> float:
        """Wall time since the job first entered the phase, whatever happened in between."""
        wanted = {"phase": phase, **({} if student is None else {"student": student})}

        def entered(session: Session) -> datetime:
            events = queries.events_after(session, self.job_id, 0, limit=100_000)
            return next((e.at for e in events if e.type == "phase" and wanted.items() <= e.data.items()), now())

        return (now() - self.read(entered)).total_seconds()

    def new_student(self, place: int = 1) -> str:
        folder = self._own / ("student" if place == 1 else f"{STUDENTS}/{place}")
        shutil.rmtree(folder, ignore_errors=True)
        return self._files.relative(folder)

    def path(self, student: str) -> Path:
        return self._files.artifact(student)

    def publish(self, student: str | None, told: Report, model: Recipe, place: int = 1) -> None:
        folder = self.path(student) if student is not None else self._own / "manifest"
        names = [export.write_manifest(folder, {"job": self.job_id, **told}, model).name]
        if student is not None:
            names += [name for name in export.FILES if (folder / name).is_file()] + [export.pack(folder).name]
        prefix = "" if place == 1 else f"{STUDENTS}/{place}/"
        described = [self._describe(folder / name, prefix) for name in names]
        if place > 1:
            self._beside.add(prefix)

        def replace(session: Session, job: Job) -> None:
            for row in queries.artifacts(session, self.job_id):
                others = [one for one in self._beside if row.name.startswith(one)]
                if prefix in others if place > 1 else not others:
                    session.delete(row)
            session.flush()
            session.add_all(Artifact(id=queries.new_id("art"), **each) for each in described)

        self._write(replace)

    # What the attempt asks for.

    def read(self, question: Callable[[Session], R]) -> R:
        """The answer to a question, once the database gives one."""

        def once() -> R:
            with self._sessions() as session:
                return question(session)

        return outlast(once, pause=pause, told=self._log_wait)

    def lasting(self, phase: Callable[[], R]) -> R:
        """A phase, gone through again from where it was for as long as the disk is full or the like."""
        return outlast(phase, pause=pause, told=self._say_wait)

    def succeed(self, result: dict[str, Any]) -> None:
        def end(session: Session) -> None:
            job = self._mine(session)
            if job.status == "cancelling":
                raise Cancelled("cancelled on request")
            if job.status == "running":
                self.close(session, "succeeded", result=result)
            elif job.status != "succeeded":
                raise Superseded

        self._transact(end)
        log.info("job %s succeeded", self.job_id)
        # There is no later attempt any more. Whatever ends otherwise may be tried again, and goes on from these.
        for done in _RESUMED_FROM:
            shutil.rmtree(self.folder / done, ignore_errors=True)

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Whatever ends the attempt is written into the job's row; nothing an attempt raises stops the worker."""
        # Written once the error is gone, and with it the networks and batches that its frames hold.
        ended: tuple[str, dict[str, Any]] | None = None
        try:
            yield
        except Superseded:
            log.warning("job %s: attempt %s was superseded", self.job_id, self.attempt)
        except Cancelled as error:
            ended = "cancelled", error.problem()
        except ArchsearchError as error:
            ended = "failed", error.problem()
        except Exception as error:
            reason = passing(error)
            if reason is not None:
                log.warning("job %s starts again in a moment: %s (%s)", self.job_id, reason, type(error).__name__)
                raise StartAgain(reason) from None
            log.exception("job %s failed", self.job_id)
            ended = "failed", unforeseen(error)
        if ended is not None:
            self._end(*ended)

    def close(self, session: Session, status: str, *, result: Any = None, error: Any = None) -> None:
        values: dict[str, Any] = {
            "status": status,
            "finished_at": now(),
            "result": result,
            "error": error,
            "eta_s": None,
            "waiting": None,
        }
        if status == "succeeded":
            values["progress"] = 1.0
        session.execute(update(Job).where(Job.id == self.job_id).values(**values))
        queries.add_event(session, self.job_id, "done", {"status": status, "error": error})

    @contextmanager
    def beating(self) -> Iterator[None]:
        """The row's heartbeat while the attempt lives: what stands still has no worker any more."""
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(stop,), name=f"heartbeat-{self.job_id}", daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()

    def _beat(self, stop: threading.Event) -> None:
        mine = (Job.id == self.job_id, Job.attempt == self.attempt, Job.finished_at.is_(None))
        while not stop.wait(HEARTBEAT_S):
            try:
                with self._sessions.begin() as session:
                    session.execute(update(Job).where(*mine).values(heartbeat_at=now()))
            except Exception as error:  # the next beat may succeed, and the step's own writes tell of a database away
                log.debug("job %s: no heartbeat: %s", self.job_id, error)

    def _end(self, status: str, error: dict[str, Any]) -> None:
        def end(session: Session) -> None:
            job = session.get(Job, self.job_id)
            if job is not None and job.attempt == self.attempt and not queries.is_over(job):
                self.close(session, status, error=error)

        self._transact(end)
        log.info("job %s %s: %s", self.job_id, status, error["detail"])

    def _describe(self, path: Path, prefix: str) -> dict[str, Any]:
        return {
            "job_id": self.job_id,
            "name": f"{prefix}{path.name}",
            "media_type": export.MEDIA_TYPES[path.name],
            "size_bytes": path.stat().st_size,
            "sha256": sha256_of(path),
            "path": self._files.relative(path),
        }

    def _write(self, change: Callable[[Session, Job], None]) -> None:
        """A transaction that only the current attempt of a job still wanted may commit."""

        def once(session: Session) -> None:
            job = self._mine(session)
            if job.status == "cancelling":
                raise Cancelled("cancelled on request")
            if job.status != "running":
                raise Superseded
            if job.waiting is not None:
                job.waiting = None
            change(session, job)

        self._transact(once)

    def _mine(self, session: Session) -> Job:
        mine = (Job.id == self.job_id, Job.attempt == self.attempt)
        # Written before it is read, so that a cancellation comes either before this or after it.
        if not session.execute(update(Job).where(*mine).values(heartbeat_at=now())).rowcount:  # type: ignore[attr-defined]
            raise Superseded
        return session.get_one(Job, self.job_id)

    def _transact(self, change: Callable[[Session], None]) -> None:
        def once() -> None:
            with self._sessions.begin() as session:
                change(session)

        outlast(once, pause=pause, told=self._log_wait)

    def _log_wait(self, reason: str) -> None:
        log.warning("job %s waits: %s", self.job_id, reason)

    def _say_wait(self, reason: str) -> None:
        """Tell why the job stands still, where it can be told."""
        self._log_wait(reason)

        try:
            # Read first: on a full disk nothing else may work, and a user may well rather cancel than make room.
            with self._sessions() as session:
                if session.get_one(Job, self.job_id).status == "cancelling":
                    raise Cancelled("cancelled on request")
            with self._sessions.begin() as session:
                job = self._mine(session)
                if job.waiting != reason:
                    job.waiting = reason
                    queries.add_event(session, self.job_id, "waiting", {"phase": self._phase[0], "reason": reason})
        except Exception as error:
            if passing(error) is None:
                raise

    def _is_worth_an_event(self, report: dict[str, Any]) -> bool:
        """Accuracies and a phase's beginning and end are, however fast they come."""
        progress = report.get("progress")
        if progress is None:
            return False
        worth = _stage(report) != self._phase or report.get("selection_acc") is not None or progress == 1.0
        return worth or time.monotonic() - self._reported_at > _REPORT_EVERY_S

    def _note(self, session: Session, job: Job, report: dict[str, Any], new_phase: bool, event: bool) -> None:
        phase, progress = report["phase"], report.get("progress")
        if "eta_s" in report or phase != job.phase:  # a mere sign of life leaves it as it is
            job.eta_s = report.get("eta_s")
        job.phase = phase
        low, high = self._spans.get(phase, (0.0, 1.0))
        overall = low + (high - low) * (progress or 0.0)
        if overall > job.progress:
            job.progress, job.strikes = overall, 0
        if new_phase:
            of: Report = {name: report[name] for name in ("student", "students") if name in report}
            queries.add_event(session, self.job_id, "phase", {"phase": phase, "attempt": self.attempt, **of})
        if event:
            queries.add_event(session, self.job_id, "progress", report)


def _stage(report: Report) -> tuple[str, int | None]:
    """The phase, and of several students whose."""
    return report["phase"], report.get("student")


def unforeseen(error: Exception) -> dict[str, Any]:
    """A failure nobody foresaw, as a problem like any other; the traceback is in the worker's log."""
    problem = ArchsearchError(f"{type(error).__name__}: {error}").problem()
    return {**problem, "code": "internal_error", "title": "The worker failed", "retryable": True}
