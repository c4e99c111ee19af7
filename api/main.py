"""The application: routes, problems, and the checks every request passes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from starlette.routing import compile_path
from starlette.types import Scope

from archsearch import __version__
from archsearch.engine import EngineClient
from archsearch.settings import Settings
from archsearch.store.database import connect, is_sqlite, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade

from . import problems, reference
from .deps import LOCK_PATIENCE_S, Services
from .feeds import Feeds
from .gate import Gate
from .room import THREADS
from .routes import (
    artifacts,
    catalogue,
    datasets,
    events,
    health,
    jobs,
    pretrained,
    profiles,
    storage,
    teachers,
    uploads,
)
from .strict import StrictBodies
from .turnstile import READING, Turnstile

_PART = re.compile(r"/v1/uploads/[^/]*/parts/[^/]*")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API. Nothing is opened before it starts; nothing here imports torch."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.services = opened = open_services(settings)
        try:
            yield
        finally:
            opened.engine.close()
            opened.database.dispose()

    app = FastAPI(
        title="archsearch",
        version=__version__,
        summary="POST a teacher and a budget, download a distilled student.",
        lifespan=lifespan,
        responses=problems.RESPONSES,
        # Its own pages load their scripts from elsewhere, and hold up the event loop; see `reference`.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    problems.install(app)
    reference.install(app)

    # The last is the outermost.
    reading = READING["sqlite" if settings.url.startswith("sqlite") else "postgresql"]
    app.add_middleware(Turnstile, free=lambda scope: _is_free(scope) or _is_part(scope), reading=reading)
    app.add_middleware(StrictBodies, free=_is_part)
    app.add_middleware(Gate, allowed_hosts=settings.allowed_hosts, methods=MethodTable(app))
    # Those asked for most come first, as routes are tried one after the other.
    app.include_router(health.router)
    for room in (jobs, events, artifacts, teachers, datasets, profiles, catalogue, pretrained, uploads, storage):
        app.include_router(room.router, prefix="/v1")
    return app


def open_services(settings: Settings) -> Services:
    """Open the data folder and the database, and bring both sets of tables up to date."""
    files = Files(settings.data_dir)
    database = connect(settings.url)
    upgrade(database, files.root / "migrate.lock")
    engine = EngineClient(database)
    engine.prepare()
    if is_sqlite(database):
        # A request rather fails than waits as long as a worker would; the migrations above were worth waiting for.
        event.listen(database, "connect", _impatient)
        database.dispose()
    sessions = session_factory(database)
    return Services(settings, database, sessions, files, engine, Feeds(sessions))


def _impatient(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    connection.cursor().execute(f"PRAGMA busy_timeout={int(LOCK_PATIENCE_S * 1000)}")


class MethodTable:
    """The methods a path takes, all its routes counted: `/jobs/{id}:cancel` is none of `/jobs/{id}`."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._found: list[tuple[str, re.Pattern[str], set[str]]] | None = None

    def __call__(self, path: str) -> list[str] | None:
        if self._found is None:
            routes = [route for route in iter_route_contexts(self._app.routes) if route.methods and route.path]
            found = ((*compile_path(str(route.path))[:2], set(route.methods or ())) for route in routes)
            self._found = [(re.sub(r"\{\w+\}", "", path), pattern, methods) for pattern, path, methods in found]
        fitting = [(literal, methods) for literal, pattern, methods in self._found if pattern.match(path)]
        nearest = max((len(literal) for literal, _ in fitting), default=0)
        methods = set().union(*(methods for literal, methods in fitting if len(literal) == nearest))
        if not methods:
            return None
        return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def _is_part(scope: Scope) -> bool:
    """A part of an upload takes its time, and counts its own bytes; see `uploads.put_part`."""
    return _PART.fullmatch(scope["path"]) is not None


def _is_free(scope: Scope) -> bool:
    # The others are looked for once at a time, whoever asks, and hold nobody up.
    return str(scope["path"]) in ("/healthz", "/v1/storage", "/v1/pretrained")
