"""What routes are given: a session, the files, the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from archsearch.engine import Engine
from archsearch.settings import Settings
from archsearch.store.files import Files


@dataclass(frozen=True)
class Services:
    """Everything the app holds open while it runs."""

    settings: Settings
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
