"""A job as a durable workflow: attempts at its story, until it has ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import update
from sqlalchemy.orm import Session

from archsearch import arrival, bounded, checks, domains, intake, pretrained
from archsearch.data.batches import now_and_then
from archsearch.data.shots import few_shots
from archsearch.device import resolve
from archsearch.domains.domain import Domain
from archsearch.engine import patiently, pause
from archsearch.errors import ArchsearchError, Cancelled, InvalidRequest, TooManyAttempts, Unavailable
from archsearch.examine import ask, fetch, unpack
from archsearch.ledger.rows import RowLedger
from archsearch.memory import machine_bytes
from archsearch.register import profile_of
from archsearch.request import (
    DatasetData,
    JobRequest,
    OfJob,
    OnnxTeacher,
    PretrainedNetwork,
    RegisteredTeacher,
    StockNetwork,
    TeacherNetwork,
    TeacherSource,
    TimmTeacher,
    UploadedFolder,
    UploadedTeacher,
    parse_request,
)
from archsearch.store import queries
from archsearch.store.models import TERMINAL, Job, TeacherRow, now
from archsearch.story import Opened, Story, tell
from archsearch.teachers import Teacher, check_source, describe_folder
from archsearch.workplace import Workplace

log = logging.getLogger(__name__)
T = TypeVar("T")

_SOURCES: TypeAdapter[Any] = TypeAdapter(TeacherSource)
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
    attempt = patiently(lambda: _begin(place, job_id), f"job {job_id}")
    if attempt is None:
        return
    log.info("job %s: attempt %s starts", job_id, attempt.number)
    ledger = attempt.ledger
    with ledger.beating(), ledger.outcome():
        ledger.succeed(tell(attempt.story(), ledger.once))


def _begin(place: Workplace, job_id: str) -> Attempt | None:
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
        attempt = Attempt(place, job_id, job.attempt)
        if job.status == "cancelling":
            attempt.ledger.close(session, "cancelled", error=Cancelled("cancelled on request").problem())
            return None
        if job.strikes > place.settings.max_attempts:
            error = TooManyAttempts(
                f"started {job.strikes - 1} times without getting further: its worker died each time; see its log"
            )
            attempt.ledger.close(session, "failed", error=error.problem())
            return None
        job.status = "running"
        queries.add_event(session, job_id, "started", {"attempt": job.attempt, "worker": place.worker})
        return attempt


class Attempt:
    """One attempt at a job. What it needs is read when it is needed, so that what is wrong with it ends the job."""

    def __init__(self, place: Workplace, job_id: str, number: int) -> None:
        self.place, self.job_id, self.number = place, job_id, number
        self.ledger = RowLedger(place.sessions, place.files, job_id, number)

    def story(self) -> Story:
        request, plan = self.ledger.read(self._asked)
        return Story(request, self.ledger, lambda: self._opened(request), plan)

    def _asked(self, session: Session) -> tuple[JobRequest, checks.Plan | None]:
        """The request as it was planned when it was submitted; what was queued before that was done is planned here."""
        job = session.get_one(Job, self.job_id)
        plan = checks.kept(job.plan)
        return (intake.resolve(session, parse_request(job.request)), None) if plan is None else (plan.request, plan)

    def _opened(self, request: JobRequest) -> Opened:
        return self._asked_again(lambda: self._open(request))

    def _asked_again(self, ask: Callable[[], T]) -> T:
        """What a request names, asked for again for a while where the hub is away."""
        for wait_s in _AWAY_S:
            try:
                return ask()
            except Unavailable as error:
                log.warning("job %s: %s; asking again in %g s", self.job_id, error, wait_s)
            self._wait(wait_s)
        return ask()

    def _open(self, request: JobRequest) -> Opened:
        dataset = self._data(request.data)
        profile = self.ledger.read(lambda session: profile_of(session, request.budget))
        teacher = self._teacher(request.teacher, dataset, resolve(request.device))
        alive = now_and_then(lambda: self.ledger.report({"phase": "validating"}))
        dataset = domains.of(dataset.task).encode(dataset, teacher, self.ledger.cache, alive)
        return Opened(teacher, dataset, profile, lambda named: self._asked_again(lambda: self._networks(named)))

    def _data(self, spec: Any) -> Any:
        if isinstance(spec, DatasetData):
            return few_shots(domains.open_dataset(self.place.files.dataset(spec.id)), spec)
        return domains.load(spec)

    def _teacher(self, spec: Any, dataset: Any, device: str) -> Teacher:
        domain = domains.of(dataset.task)
        if not isinstance(spec, RegisteredTeacher):
            assert not isinstance(spec, OfJob)  # filled in when the job was queued
            self._fetch(spec, domain)
            return domain.load_teacher(spec, None, dataset, device=device)
        row = self.ledger.read(lambda session: queries.require(session, TeacherRow, spec.id, field="teacher.id"))
        source, weights = self._source_of(row)
        self._fetch(source, domain)
        if isinstance(source, OnnxTeacher):
            self._ask(row, source, spec, dataset)
        given: dict[str, Any] = {"classes": spec.classes, "input_size": spec.input_size, "head": spec.head}
        return domain.load_teacher(source, weights, dataset, **given, device=device)

    def _ask(self, row: TeacherRow, source: OnnxTeacher, spec: RegisteredTeacher, dataset: Any) -> None:
        """Ask a graph about the job's data in a process of its own first, unless its check did: how long it takes and
        how much memory, nobody can count beforehand."""
        measured_on, domain = (row.facts or {}).get("measured_on"), domains.of(dataset.task)
        if not domain.grid or (spec.input_size is None and measured_on == domain.size(dataset.task)):
            return
        data, files, settings = self.ledger.read(self._asked)[0].data, self.place.files, self.place.settings
        size: Any = spec.input_size  # a pair arrives as a list
        stored = str(files.dataset(data.id)) if isinstance(data, DatasetData) else None
        bounded.run(
            ask,
            {
                "source": row.source,
                "weights": str(files.upload(source.upload)),
                "dataset": stored,
                "digits": None if stored else data.model_dump(mode="json"),
                "input_size": size,
            },
            what="asking the ONNX teacher about the data",
            limit_s=settings.check_time_limit_s,
            memory_bytes=settings.check_memory_bytes or machine_bytes() // 2,
            cancelled=self._heartbeat,
            advice="give a smaller input_size or network",
        )

    def _source_of(self, row: TeacherRow) -> tuple[Any, Path | None]:
        """Where a registered teacher comes from, and its weights file or its folder if it was uploaded."""
        source, files = _SOURCES.validate_python(row.source), self.place.files
        if isinstance(source, UploadedFolder):
            folder = files.unpacked(source.upload)
            if not folder.is_dir():  # its check has not come so far yet
                paths = {"path": str(files.upload(source.upload)), "folder": str(folder)}
                self._bounded(unpack, paths, "unpacking the teacher", "upload fewer or smaller files")
            return source, folder
        return source, files.upload(source.upload) if isinstance(source, UploadedTeacher | OnnxTeacher) else None

    def _networks(self, named: Sequence[PretrainedNetwork] | None) -> list[pretrained.Stored]:
        """The networks with weights a request names, or all at hand; those that have to be downloaded are, as a
        teacher is."""
        folder = self.place.settings.pretrained_dir
        if named is None:
            return pretrained.at_hand(folder)
        for i, one in enumerate(named):
            if isinstance(one, StockNetwork):
                self._fetch_network(one.name, f"{pretrained.FIELD}.{i}")
        return pretrained.find(named, folder, self._registered)

    def _registered(self, id: str, field: str) -> pretrained.Stored:
        """The network of a registered teacher; raises InvalidRequest where that is none of timm's."""
        named = TeacherNetwork(id=id)
        row = self.ledger.read(lambda session: queries.require(session, TeacherRow, id, field=field))
        source, weights = self._source_of(row)
        if isinstance(source, TimmTeacher):
            self._fetch_network(source.name, field)
            (found,) = pretrained.find([StockNetwork(name=source.name)], None, self._registered)
            return replace(found, named=named)
        assert weights is not None
        if isinstance(source, UploadedFolder):
            # Nobody vouches for its config.json: what it says is described, and checked, as in a request.
            described = {**describe_folder(weights), "upload": source.upload}
            source, weights = UploadedTeacher(**described), weights / "model.safetensors"
        if isinstance(source, UploadedTeacher):
            check_source(source, field=field)
            return pretrained.of_upload(named, source, weights)
        raise InvalidRequest(f"{id} is no network of timm's, whose weights a student could begin with", field=field)

    def _fetch_network(self, name: str, field: str) -> None:
        try:
            self._fetch(TimmTeacher(name=name), domains.get("image_classification"))
        except ArchsearchError as error:  # it is no teacher here
            error.field = field
            raise

    def _fetch(self, source: object, domain: Domain) -> None:
        """Download what has to be, in a process that ends when the job is cancelled, whatever the hub does."""
        if isinstance(source, TimmTeacher) and not domain.at_hand(source.name):
            advice = "set ARCHSEARCH_CHECK_TIME_LIMIT_S higher where the network is slow"
            named = {"name": source.name, "domain": domain.name}
            self._bounded(fetch, named, f"fetching {source.name}", advice)

    def _bounded(self, function: Callable[..., Any], arguments: Mapping[str, str], what: str, advice: str) -> None:
        limit_s = self.place.settings.check_time_limit_s
        bounded.run(function, arguments, what=what, limit_s=limit_s, cancelled=self._heartbeat, advice=advice)

    def _heartbeat(self) -> bool:
        """Say that the job lives; raises Cancelled, and so answers the question whether it was cancelled."""
        self.ledger.report({"phase": "validating"})
        return False

    def _wait(self, seconds: float) -> None:
        """Do nothing for a while; raises Cancelled meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            pause(min(1.0, left))
            self._heartbeat()
