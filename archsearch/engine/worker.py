"""What runs durable jobs: a `Worker` in its process, and what workflows call of it."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from pydantic import JsonValue

from archsearch import locks
from archsearch.engine.client import AGAIN, APP_VERSION, APPLICATION, QUEUES, EngineClient, number_of
from archsearch.errors import Conflict, InvalidRequest
from archsearch.patience import outlast, passing

if TYPE_CHECKING:
    from dbos import DBOS

TAKEOVER_INTERVAL_S = 2.0
TIDY_INTERVAL_S = 60.0
# A workflow of ours that no thread runs: a start takes milliseconds, unless the database is slow to tell of it.
LET_GO_S = 5.0
CLOSE_PATIENCE_S = 0.5  # how long `close` waits for a claim, or for a workflow that is between two steps

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger(__name__)


class Worker:
    """Runs queued workflows in this process, one of each lane at a time, and takes over those of dead workers.

    Args:
        name: Stable over restarts and unique among the workers; a restarted worker resumes its own workflows.
        lock_dir: Where each living worker holds a lock of its name; all workers of a database share the folder.
        workflows: What `enqueue` calls by name. One that raises is over (ERROR): they record failures themselves.
            An error that passes by itself is no end: the workflow starts again.
        tidy: Called at the start and every minute, in a thread of its own.
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
        tidy: Callable[[], None] | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InvalidRequest(f"{name!r} does not fit a file name; use letters, digits, '.', '_', '-'", field="name")
        self.name = name
        self._engine = engine
        self._lock_dir = lock_dir
        self._poll_interval_s = poll_interval_s
        self._takeover_interval_s = takeover_interval_s
        self._workflows = dict(workflows)
        self._tidy, self._tidied_at = tidy, -math.inf
        self._let_go: dict[str, float] = {}
        self._lock = -1
        self._dbos: DBOS | None = None
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_over_others, name="takeover", daemon=True)

    def start(self) -> None:
        """Take the name, then start to work. A `Conflict` says which process has the name already."""
        global _worker
        if _worker is not None:
            raise Conflict(f"this process runs worker {_worker.name!r} already; start another process")
        self._lock = locks.take_for_good(
            self._lock_path(self.name), f"worker {self.name!r} runs already: {{}}; choose another name"
        )
        _worker = self
        try:
            self._dbos = self._launch()
        except BaseException:
            locks.release(self._lock)
            _worker = None
            raise
        self._watch.start()

    def close(self) -> bool:
        """Take no new work; false if a workflow is still busy in a step, or the database with a claim.

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
        while _claiming() or self._dbos._active_workflows_set.activeList():
            # DBOS must outlive both: a claim is still to be started (and unwinds at once), a last step to be recorded.
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        type(self._dbos).destroy(destroy_registry=True)
        self._dbos = _worker = None
        locks.release(self._lock)
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
        import dbos._sys_db
        from dbos import DBOS, DBOSPortableJSONSerializer
        from dbos._serialization import DefaultSerializer

        # Whatever serializer we give, DBOS would unpickle a row that is marked as a pickle.
        DefaultSerializer.deserialize = _refuse_pickle  # type: ignore[assignment, method-assign]
        # A workflow would end if its step could not be recorded. DBOS waits out SQLite's locks, but no full disk; and
        # PostgreSQL's answers, but not that there is no server to give one.
        for name in ("retriable_sqlite_exception", "retriable_postgres_exception"):
            setattr(dbos._sys_db, name, _passes)
        client = EngineClient(self._engine)
        client.prepare()
        # Before the launch, as DBOS looks for new queues once a second. A dead worker would fill a global limit.
        for queue in QUEUES.values():
            client._client.register_queue(queue, worker_concurrency=1, polling_interval_sec=self._poll_interval_s)
        client.close()
        launched = DBOS(
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
        return launched

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        def run(*args: JsonValue) -> None:
            if self._stopping.is_set():
                raise _Stopping
            try:
                function(*args)
                return
            except Exception as error:
                reason = passing(error)
                if reason is None:
                    raise
            raise StartAgain(reason)

        return run

    def run_step(self, name: str, once: Callable[[], R]) -> R:
        """What `step` does in a worker; a plain call for a thread that runs none of our workflows."""
        from dbos import DBOS

        if DBOS.workflow_id is None:
            return once()
        if self._stopping.is_set():
            raise _Stopping
        before = self._finished(DBOS.workflow_id, name)
        return DBOS.run_step({"name": name}, once if before is None else lambda: cast(R, before[0]))

    def _finished(self, start_id: str, step_name: str) -> list[object] | None:
        """The result a step had in an earlier start of the same workflow."""
        workflow_id, again, _ = start_id.partition(AGAIN)
        assert self._dbos is not None
        if not again:
            return None
        for number in range(number_of(start_id) - 1, -1, -1):
            earlier = f"{workflow_id}{AGAIN}{number}" if number else workflow_id
            for done in self._dbos._sys_db.list_workflow_steps(earlier):
                if done["function_name"] == step_name and done["error"] is None:
                    return [done["output"]]
        return None

    def _watch_over_others(self) -> None:
        waiting = False
        while True:
            try:
                self._take_over_the_dead()
                if self._tidy is not None and time.monotonic() - self._tidied_at > TIDY_INTERVAL_S:
                    self._tidy()
                    self._tidied_at = time.monotonic()
                waiting = False
            except Exception as error:
                # The database may be away for a while; the watch must outlive that.
                reason = passing(error)
                if reason is None:
                    log.warning("could not look after unfinished workflows", exc_info=True)
                elif not waiting:
                    log.warning("%s; unfinished workflows are looked after once that has passed", reason)
                    waiting = True
            if self._stopping.wait(self._takeover_interval_s):
                return

    def _take_over_the_dead(self) -> None:
        """Put the workflows of dead workers back into the queue, where one worker gets each.

        Not by the public `resume_workflow`: that moves a workflow to a queue without our concurrency limit, even
        if another survivor has started it meanwhile. Recovery changes only what the dead owner still owns.
        """
        from dbos import DBOS

        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        self._take_up_what_was_let_go({w.workflow_id for w in pending if w.executor_id == self.name})
        for owner in {workflow.executor_id for workflow in pending} - {self.name, None}:
            path = self._lock_path(str(owner))
            # A worker without a lock file never ran on this folder: it cannot be judged from here.
            lock = locks.take(path) if path.exists() else None
            if lock is None:
                continue
            try:
                for handle in DBOS._recover_pending_workflows([path.stem]):
                    log.warning("worker %s is dead; its workflow %s starts again", owner, handle.get_workflow_id())
            finally:
                locks.release(lock)

    def _take_up_what_was_let_go(self, mine: set[str]) -> None:
        """Put own workflows back into the queue that no thread runs: they are to start again, or the database was cut
        off between the claim and the start."""
        assert self._dbos is not None
        idle = mine.difference(self._dbos._active_workflows_set.activeList())
        seen = time.monotonic()
        self._let_go = {id: self._let_go.get(id, seen) for id in idle}
        for id, since in list(self._let_go.items()):
            if seen - since >= LET_GO_S and not self._stopping.is_set():
                self._dbos._sys_db.reenqueue_for_recovery(id, [self.name], QUEUES["heavy"])
                del self._let_go[id]


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


def pause(seconds: float) -> None:
    """Wait; unwinds the workflow when its worker is told to stop meanwhile."""
    if _worker is None:
        time.sleep(seconds)
    elif _worker._stopping.wait(seconds):
        raise _Stopping


def patiently(action: Callable[[], R], what: str) -> R:
    """Do something inside a workflow, as often as errors that pass by themselves stop it."""
    return outlast(action, pause=pause, told=lambda reason: log.warning("%s waits: %s", what, reason))


class StartAgain(BaseException):
    """Unwinds a workflow that has to start again in a moment; to DBOS it has not ended."""


class _Stopping(BaseException):
    """Unwinds a workflow that has to wait for the next start; DBOS records an `Exception`, but not this."""


class _Unfinished(BaseException):
    """Carries a step's error past DBOS, which would keep it and raise a mere copy when started again."""


def _claiming() -> bool:
    """Whether a thread of DBOS may still take workflows from a queue."""
    return any(thread.name.startswith("queue-worker-") for thread in threading.enumerate())


def _passes(error: Exception) -> bool:
    # A statement that was cancelled took too long, or was not wanted: it would be cancelled once more.
    cancelled = getattr(getattr(error, "orig", None), "sqlstate", None) == "57014"
    return not cancelled and passing(error) is not None


def _refuse_pickle(_: object, serialized_data: str) -> object:
    raise ValueError("this database holds JSON only; refusing to unpickle")


def tell_device(lock_dir: Path, name: str, device: str) -> None:
    """Keep beside a worker's lock what it computes on."""
    (lock_dir / f"{name}.device").write_text(f"{device}\n")


def worker_devices(lock_dir: Path, names: Iterable[str]) -> dict[str, str | None]:
    """What workers compute on; None of one that has not found out yet, or is of an earlier version."""
    found: dict[str, str | None] = {}
    for name in names:
        path = lock_dir / f"{name}.device"
        found[name] = path.read_text().strip() if path.is_file() else None
    return found


def living_workers(lock_dir: Path) -> dict[str, str]:
    """Names of the workers that live, each with its lock's note (`pid … since …`)."""
    return locks.held(lock_dir)
