"""Durable jobs: the one module that knows DBOS. The API enqueues with `EngineClient`, a `Worker` runs.

What it promises: a committed `enqueue` is run; a finished step is never run again; a step that was cut off or
raised is run again; the workflows of a dead worker are taken over by a living one, and those of a living one never.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa
from pydantic import JsonValue
from sqlalchemy.orm import Session

from archsearch.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from dbos import DBOS, DBOSClient, EnqueueOptions

# What may take hours, and what somebody waits for: a worker does one of each at the same time. Work in the light lane
# must leave this process's random numbers alone, for a training in the other one draws from them.
Lane = Literal["heavy", "light"]
QUEUES: Mapping[Lane, str] = {"heavy": "jobs", "light": "checks"}
APPLICATION = "archsearch"
# Pinned: DBOS would hash the workflows' source, and every upgrade would strand the jobs of the version before.
# Raise it only when the steps of a workflow change order, and drain the queue first.
APP_VERSION = "1"

TAKEOVER_INTERVAL_S = 2.0
LOCK_PATIENCE_S = 1.0  # a survivor holds a dead worker's lock for milliseconds; a new worker of that name waits
CLOSE_PATIENCE_S = 0.5  # how long `close` waits for a workflow that is between two steps

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger(__name__)


class Engine(Protocol):
    """What the API needs of a job engine."""

    def prepare(self) -> None:
        """Create or migrate the engine's own tables; safe to call from many processes at once."""

    def enqueue(
        self, session: Session, workflow: str, workflow_id: str, *args: JsonValue, lane: Lane = "heavy"
    ) -> None:
        """Start a workflow when, and only if, the caller's transaction commits. A known id is left as it is."""

    def cancel(self, workflow_id: str) -> None:
        """Never start it, or start no further step. Call it after the commit, not inside a transaction."""

    def status(self, workflow_id: str) -> str | None:
        """ENQUEUED, PENDING (running, or waiting for its worker to come back), SUCCESS, ERROR or CANCELLED."""

    def close(self) -> None:
        """Let go of the engine; the database stays the caller's."""


class EngineClient:
    """The `Engine` on DBOS, inside the caller's database. Runs nothing."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._opened: DBOSClient | None = None
        self._opening = threading.Lock()

    def prepare(self) -> None:
        # DBOS locks here, on either database; its public `migrate` would open an engine without our hooks.
        self._client._sys_db.run_migrations()

    def enqueue(
        self, session: Session, workflow: str, workflow_id: str, *args: JsonValue, lane: Lane = "heavy"
    ) -> None:
        options: EnqueueOptions = {
            "workflow_name": workflow,
            "workflow_id": workflow_id,
            "queue_name": QUEUES[lane],
            "app_version": APP_VERSION,
        }
        self._client.enqueue_in_transaction(session, options, *args)

    def cancel(self, workflow_id: str) -> None:
        self._client.cancel_workflow(workflow_id)

    def status(self, workflow_id: str) -> str | None:
        found = self._client.list_workflows(workflow_ids=[workflow_id], load_input=False, load_output=False)
        return str(found[0].status) if found else None

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.destroy()

    @property
    def _client(self) -> DBOSClient:
        # Imported late: DBOS takes a third of a second, which `archsearch --help` need not pay.
        from dbos import DBOSClient, DBOSPortableJSONSerializer

        with self._opening:
            if self._opened is None:
                self._opened = DBOSClient(
                    system_database_engine=self._engine,
                    serializer=DBOSPortableJSONSerializer(),
                    application_name=APPLICATION,
                    lazy=True,
                    # A request would rather fail than hang until the database is back. (A worker waits.)
                    retry_connection_errors=False,
                )
            return self._opened


class Worker:
    """Runs queued workflows in this process, one of each lane at a time, and takes over those of dead workers.

    Args:
        name: Stable over restarts and unique among the workers; a restarted worker resumes its own workflows.
        lock_dir: Where each living worker holds a lock of its name; all workers of a database share the folder.
        workflows: What `enqueue` calls by name. One that raises is over (ERROR): they record failures themselves.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        name: str,
        lock_dir: Path,
        poll_interval_s: float,
        workflows: Mapping[str, Callable[..., None]],
        takeover_interval_s: float = TAKEOVER_INTERVAL_S,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InvalidRequest(f"{name!r} does not fit a file name; use letters, digits, '.', '_', '-'", field="name")
        self.name = name
        self._engine = engine
        self._lock_dir = lock_dir
        self._poll_interval_s = poll_interval_s
        self._takeover_interval_s = takeover_interval_s
        self._workflows = dict(workflows)
        self._lock = -1
        self._dbos: DBOS | None = None
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_over_others, name="takeover", daemon=True)

    def start(self) -> None:
        """Take the name, then start to work. A `Conflict` says which process has the name already."""
        global _worker
        if _worker is not None:
            raise Conflict(f"this process runs worker {_worker.name!r} already; start another process")
        self._lock = _take_name(self._lock_path(self.name))
        _worker = self
        try:
            self._dbos = self._launch()
        except BaseException:
            _release_lock(self._lock)
            _worker = None
            raise
        self._watch.start()

    def close(self) -> bool:
        """Take no new work; false if a workflow is still busy in a step.

        The lock is then kept until this process ends, so that nobody starts the workflow a second time: leave
        with `os._exit`, as `serve` does.
        """
        global _worker
        if self._dbos is None:
            return True
        self._stopping.set()
        for stop in self._dbos.background_thread_stop_events:
            stop.set()
        self._watch.join(CLOSE_PATIENCE_S)
        deadline = time.monotonic() + CLOSE_PATIENCE_S
        while self._dbos._active_workflows_set.activeList():
            # DBOS must outlive the workflow: in its last step it still has a result to record.
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        type(self._dbos).destroy(destroy_registry=True)
        self._dbos = _worker = None
        _release_lock(self._lock)
        return True

    def serve(self) -> None:
        """Work until SIGTERM or SIGINT, then leave at once; does not return if a workflow was running."""
        told = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
        self.start()
        told.wait()
        if not self.close():
            # An ordinary exit would wait for the workflow's thread.
            logging.shutdown()
            print(end="", flush=True)
            os._exit(0)

    def _lock_path(self, name: str) -> Path:
        return self._lock_dir / f"{name}.lock"

    def _launch(self) -> DBOS:
        from dbos import DBOS, DBOSPortableJSONSerializer
        from dbos._serialization import DefaultSerializer

        # Whatever serializer we give, DBOS would unpickle a row that is marked as a pickle.
        DefaultSerializer.deserialize = _refuse_pickle  # type: ignore[assignment, method-assign]
        client = EngineClient(self._engine)
        client.prepare()
        # Before the launch, as DBOS looks for new queues once a second. A dead worker would fill a global limit.
        for queue in QUEUES.values():
            client._client.register_queue(queue, worker_concurrency=1, polling_interval_sec=self._poll_interval_s)
        client.close()
        dbos = DBOS(
            config={
                "name": APPLICATION,
                "system_database_engine": self._engine,
                "executor_id": self.name,
                "application_version": APP_VERSION,
                "serializer": DBOSPortableJSONSerializer(),
                "enable_otlp": False,
                "log_level": "WARNING",
                # Only bounds how long `close` waits for the listener's nap: we use no events.
                "notification_listener_polling_interval_sec": min(0.1, self._poll_interval_s),
            }
        )
        for name, function in self._workflows.items():
            # Attempts are capped by our own table, which knows a crash from a restart.
            DBOS.workflow(name=name, max_recovery_attempts=None)(self._guarded(function))
        # This also puts our own unfinished workflows back into the queue.
        DBOS.launch()
        return dbos

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        def run(*args: JsonValue) -> None:
            if self._stopping.is_set():
                raise _Stopping
            function(*args)

        return run

    def run_step(self, name: str, once: Callable[[], R]) -> R:
        """What `step` does in a worker; a plain call for a thread that runs none of our workflows."""
        from dbos import DBOS

        if DBOS.workflow_id is None:
            return once()
        if self._stopping.is_set():
            raise _Stopping
        return DBOS.run_step({"name": name}, once)

    def _watch_over_others(self) -> None:
        while True:
            try:
                self._take_over_the_dead()
            except Exception:
                # The database may be away for a while; the watch must outlive that.
                log.warning("could not look after the workflows of dead workers", exc_info=True)
            if self._stopping.wait(self._takeover_interval_s):
                return

    def _take_over_the_dead(self) -> None:
        """Put the workflows of dead workers back into the queue, where one worker gets each.

        Not by the public `resume_workflow`: that moves a workflow to a queue without our concurrency limit, even
        if another survivor has started it meanwhile. Recovery changes only what the dead owner still owns.
        """
        from dbos import DBOS

        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        for owner in {workflow.executor_id for workflow in pending} - {self.name, None}:
            path = self._lock_path(str(owner))
            # A worker without a lock file never ran on this folder: it cannot be judged from here.
            lock = _take_lock(path) if path.exists() else None
            if lock is None:
                continue
            try:
                for handle in DBOS._recover_pending_workflows([path.stem]):
                    log.warning("worker %s is dead; its workflow %s starts again", owner, handle.get_workflow_id())
            finally:
                _release_lock(lock)


# DBOS allows one instance in a process, so there is one worker, and `step` finds it here.
_worker: Worker | None = None


def step(name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run one step of a workflow: its JSON result is kept, and given back unrun when the workflow starts again.

    A step that raises is not finished: the error reaches the workflow as it is, and the step runs again if the
    workflow does, so let no other step follow it. The result is what JSON makes of it (a tuple comes back as a
    list), the first time as well. Outside a worker's workflow it is a plain call.
    """

    def once() -> R:
        try:
            return cast(R, json.loads(json.dumps(function(*args, **kwargs))))
        except Exception as error:
            raise _Unfinished(error) from error

    try:
        return once() if _worker is None else _worker.run_step(name, once)
    except _Unfinished as unfinished:
        (error,) = unfinished.args
    raise error


class _Stopping(BaseException):
    """Unwinds a workflow that has to wait for the next start; DBOS records an `Exception`, but not this."""


class _Unfinished(BaseException):
    """Carries a step's error past DBOS, which would keep it and raise a mere copy when started again."""


def _take_lock(path: Path) -> int | None:
    """A worker's sign of life: an flock, which the kernel drops however the process ends. None while it lives.

    A forked child that outlives its worker shares the lock, so nobody takes over while it may still be writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never deleted: a lock on a deleted file would exclude nobody.
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _take_name(path: Path) -> int:
    """The worker's own lock, with this process written into it, or `Conflict`."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while (lock := _take_lock(path)) is None:
        if time.monotonic() > deadline:
            raise Conflict(f"worker {path.stem!r} runs already: {path.read_text().strip()}; choose another name")
        time.sleep(0.05)
    os.truncate(lock, 0)
    os.write(lock, f"pid {os.getpid()} since {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n".encode())
    return lock


def _release_lock(lock: int) -> None:
    # Unlocked, not just closed: a child forked in the meantime has the file open too.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _refuse_pickle(_: object, serialized_data: str) -> object:
    raise ValueError("this database holds JSON only; refusing to unpickle")


def living_workers(lock_dir: Path) -> dict[str, str]:
    """Names of the workers that live, each with its lock's note (`pid … since …`)."""
    living = {}
    for path in sorted(lock_dir.glob("*.lock")):
        lock = _take_lock(path)
        if lock is None:
            living[path.stem] = path.read_text().strip()
        else:
            _release_lock(lock)
    return living
