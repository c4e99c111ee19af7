"""What routes are given: sessions, the files, the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from archsearch.engine import Engine
from archsearch.errors import Unavailable
from archsearch.settings import Settings
from archsearch.store import delete
from archsearch.store.database import is_sqlite, writing
from archsearch.store.files import Files

from .feeds import Feeds
from .schemas import StorageAnswer
from .shared import Shared

# The largest request but the part of an upload.
JSON_BYTES = 2**20
# How long a request waits for its turn to write, or for a lock some other process holds, before it is told so.
LOCK_PATIENCE_S = 5.0

# How long what was deleted is removed right after the answer; a worker's next pruning does the rest.
SWEEP_S = 1.0


@dataclass(frozen=True)
class Services:
    """Everything the app holds open while it runs."""

    settings: Settings
    database: Database
    sessions: sessionmaker[Session]
    files: Files
    engine: Engine
    feeds: Feeds
    storage: Shared[StorageAnswer] = field(default_factory=Shared)
    counting: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session to read with. Answers are built inside, whole, so that nothing is asked for afterwards."""
        with self.sessions() as opened:
            yield opened

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction to write in (`database.writing`).

        SQLite lets one write at a time and wakes those who wait in no order, after up to a tenth of a second: within
        this process they stand in line.
        """
        if not is_sqlite(self.database):
            with writing(self.sessions) as opened:
                yield opened
            return
        if not self._turn.acquire(timeout=LOCK_PATIENCE_S):
            raise Unavailable("the database is busy writing")
        try:
            with writing(self.sessions) as opened:
                yield opened
        finally:
            self._turn.release()

    def sweep(self) -> None:
        """Remove the files of what was deleted. Whatever keeps it from that, a worker's next pruning does it."""
        with suppress(OSError, SQLAlchemyError):
            delete.sweep(self.sessions, self.files, within_s=SWEEP_S)


# Async, as FastAPI would give a plain function a thread of its own.
async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]

# What a database takes for a number; a larger one would be its error, not the client's.
Count = Annotated[int, Query(ge=0, lt=2**63)]

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same request gives back what that made the first time.",
    ),
]


def not_modified(request: Request, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110, 13.1.2: a list, compared weakly)."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
