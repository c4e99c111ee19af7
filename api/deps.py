"""What routes are given: a session, the files, the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy import Engine as Database
from sqlalchemy.orm import Session, sessionmaker

from archsearch.engine import Engine
from archsearch.settings import Settings
from archsearch.store.files import Files

# The largest request but the part of an upload.
JSON_BYTES = 2**20


@dataclass(frozen=True)
class Services:
    """Everything the app holds open while it runs."""

    settings: Settings
    database: Database
    sessions: sessionmaker[Session]
    files: Files
    engine: Engine


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def session(found: ServicesDep) -> Iterator[Session]:
    """A transaction for the request: committed when the route returned, rolled back when it raised."""
    with found.sessions.begin() as opened:
        yield opened


# "function" scope: the commit happens before the answer is sent, so a client that got a 202 can GET what it made.
SessionDep = Annotated[Session, Depends(session, scope="function")]

# What a database takes for a number; a larger one would be its error, not the client's.
Count = Annotated[int, Query(ge=0, lt=2**63)]


def not_modified(request: Request, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110, 13.1.2: a list, compared weakly)."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
