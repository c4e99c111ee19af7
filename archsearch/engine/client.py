"""What asks for durable jobs: the `Engine`, inside the caller's transactions. It runs nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

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
# Between a workflow's id and the number of another start of it.
AGAIN = ":"


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
        """Start once more what has ended or was lost; returns the id of this start. Finished steps stay finished."""

    def owners(self, session: Session, workflow_id: str) -> dict[str, str | None]:
        """The starts of a workflow that are queued or running, each with the worker that has it."""

    def release(self, start_id: str, owner: str) -> None:
        """Put a start back into its queue, if this worker, known to be dead, still has it."""

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

    def enqueue_again(
        self, session: Session, workflow: str, workflow_id: str, *args: JsonValue, lane: Lane = "heavy"
    ) -> str:
        known = [start for start, _, _ in self._starts(session, workflow_id)]
        # Whoever does the same at this moment comes to the same number, and a known id is left as it is.
        start_id = f"{workflow_id}{AGAIN}{1 + max((number_of(start) for start in known), default=0)}"
        self.enqueue(session, workflow, start_id, *args, lane=lane)
        return start_id

    def owners(self, session: Session, workflow_id: str) -> dict[str, str | None]:
        living = ("ENQUEUED", "DELAYED", "PENDING")
        return {start: owner for start, status, owner in self._starts(session, workflow_id) if status in living}

    def release(self, start_id: str, owner: str) -> None:
        self._client._sys_db.reenqueue_for_recovery(start_id, [owner], QUEUES["heavy"])

    def _starts(self, session: Session, workflow_id: str) -> Sequence[tuple[str, str, str | None]]:
        """Id, status and worker, read inside the caller's transaction."""
        table = self._client._sys_db.tables.workflow_status
        columns = (table.c.workflow_uuid, table.c.status, table.c.executor_id)
        again = table.c.workflow_uuid.startswith(workflow_id + AGAIN, autoescape=True)
        query = sa.select(*columns).where((table.c.workflow_uuid == workflow_id) | again)
        # DBOS names its schema when a statement runs: none on SQLite.
        schema = {"schema_translate_map": {table.schema: self._client._sys_db.schema}}
        found = session.execute(query, execution_options=schema)
        return [(str(id), str(status), owner) for id, status, owner in found]

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
