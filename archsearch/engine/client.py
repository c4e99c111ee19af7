"""What asks for durable jobs: the `Engine`, inside the caller's transactions. It runs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import sqlalchemy as sa
from pydantic import JsonValue
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from dbos import DBOSClient, EnqueueOptions

# What may take hours, and what somebody waits for: a worker does one of each at the same time. Work in the light lane
# must leave this process's random numbers alone, for a training in the other one draws from them.
Lane = Literal["heavy", "light"]
QUEUES: Mapping[Lane, str] = {"heavy": "jobs", "light": "checks"}
APPLICATION = "archsearch"
# Pinned: DBOS would hash the workflows' source, and every upgrade would strand the jobs of the version before.
# Raise it only when the steps of a workflow change order, and drain the queue first.
APP_VERSION = "1"
_QUEUED = ("ENQUEUED", "DELAYED")
# Starts of one workflow that are asked for at once; hardly any has more.
_PAGE = 20
# Between a workflow's id and the number of another start of it.
AGAIN = ":"


class _Start(NamedTuple):
    """One start of a workflow: which worker has it, and since when."""

    id: str
    status: str
    owner: str | None
    since_ms: int


class Engine(Protocol):
    """What the API needs of a job engine."""

    def prepare(self) -> None:
        """Create or migrate the engine's own tables; safe to call from many processes at once."""

    def enqueue(
        self, session: Session, workflow: str, workflow_id: str, *args: JsonValue, lane: Lane = "heavy"
    ) -> None:
        """Start a workflow when, and only if, the caller's transaction commits. A known id is left as it is."""

    def enqueue_again(
        self, session: Session, workflow: str, workflow_id: str, *args: JsonValue, lane: Lane = "heavy"
    ) -> str:
        """Start once more what has ended or was lost; returns the id of this start. Finished steps stay finished.

        One that is still in its queue, of a job cancelled there for one, is the start.
        """

    def owners(self, session: Session, workflow_id: str) -> dict[str, str | None]:
        """The starts of a workflow that are queued or running, each with the worker that has it."""

    def overdue(self, session: Session, workflow_id: str, limit_s: float) -> dict[str, str]:
        """The starts of a workflow that a worker has had for longer than that, each with this worker."""

    def release(self, start_id: str, owner: str) -> None:
        """Put a start back into its queue, if this worker, known to be dead, still has it."""

    def cancel(self, workflow_id: str) -> None:
        """Never start it, or start no further step. Call it after the commit, not inside a transaction."""

    def ended(self, session: Session, workflow: str) -> dict[str, str]:
        """The starts of all workflows of this name that have ended, each with its workflow's id."""

    def forget(self, start_ids: Sequence[str]) -> None:
        """Delete starts that have ended, with the results of their steps. Call it outside a transaction."""

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

    def enqueue_again(
        self, session: Session, workflow: str, workflow_id: str, *args: JsonValue, lane: Lane = "heavy"
    ) -> str:
        # Locked, lest a worker takes one from the queue before this transaction has said what it is for.
        known = self._starts(session, workflow_id, lock=True)
        queued = [start.id for start in known if start.status in _QUEUED]
        if queued:
            return queued[0]
        # Whoever does the same at this moment comes to the same number, and a known id is left as it is.
        start_id = f"{workflow_id}{AGAIN}{1 + max((number_of(start.id) for start in known), default=0)}"
        self.enqueue(session, workflow, start_id, *args, lane=lane)
        return start_id

    def owners(self, session: Session, workflow_id: str) -> dict[str, str | None]:
        living = (*_QUEUED, "PENDING")
        return {start.id: start.owner for start in self._starts(session, workflow_id) if start.status in living}

    def overdue(self, session: Session, workflow_id: str, limit_s: float) -> dict[str, str]:
        before_ms = 1000 * (time.time() - limit_s)
        running = [start for start in self._starts(session, workflow_id) if start.status == "PENDING" and start.owner]
        return {start.id: str(start.owner) for start in running if start.since_ms < before_ms}

    def release(self, start_id: str, owner: str) -> None:
        self._client._sys_db.reenqueue_for_recovery(start_id, [owner], QUEUES["heavy"])

    def ended(self, session: Session, workflow: str) -> dict[str, str]:
        table = self._client._sys_db.tables.workflow_status
        ours = (table.c.name == workflow, table.c.application_name == APPLICATION)
        query = sa.select(table.c.workflow_uuid).where(*ours, table.c.status.not_in((*_QUEUED, "PENDING")))
        return {start: start.partition(AGAIN)[0] for (start,) in session.execute(query, execution_options=self._schema)}

    def forget(self, start_ids: Sequence[str]) -> None:
        self._client.delete_workflows(list(start_ids))

    def _starts(self, session: Session, workflow_id: str, *, lock: bool = False) -> Sequence[_Start]:
        """All of them, read inside the caller's transaction."""
        table = self._client._sys_db.tables.workflow_status
        since = sa.func.coalesce(table.c.started_at_epoch_ms, table.c.updated_at)
        query = sa.select(table.c.workflow_uuid, table.c.status, table.c.executor_id, since)
        query = query.with_for_update() if lock else query
        found: list[_Start] = []
        first = 0
        # By their ids, which each database finds at once; they count on without a gap, but the first may be lost.
        while True:
            ids = [f"{workflow_id}{AGAIN}{number}" if number else workflow_id for number in range(first, first + _PAGE)]
            page = query.where(table.c.workflow_uuid.in_(ids))
            found += [_Start(*row) for row in session.execute(page, execution_options=self._schema)]
            if ids[-1] not in (start.id for start in found):
                return found
            first += _PAGE

    @property
    def _schema(self) -> Mapping[str, Mapping[str | None, str | None]]:
        """DBOS names its schema when a statement runs: none on SQLite."""
        system = self._client._sys_db
        return {"schema_translate_map": {system.tables.workflow_status.schema: system.schema}}

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


def number_of(start_id: str) -> int:
    """Of a start: 0 for the first."""
    again = start_id.partition(AGAIN)[2]
    return int(again) if again.isdecimal() else 0
