"""The application: routes, problems, and the checks every request passes."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from archsearch import __version__
from archsearch.engine import EngineClient
from archsearch.settings import Settings
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade

from . import problems
from .deps import JSON_BYTES, Services
from .routes import artifacts, catalogue, datasets, events, health, jobs, profiles, teachers, uploads

# A part of an upload counts its own bytes; see `uploads.put_part`.
_PART = re.compile(r"/v1/uploads/[^/]*/parts/[^/]*")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API. Nothing is opened before it starts; nothing here imports torch."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
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
    )
    problems.install(app)

    @app.middleware("http")
    async def gate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Give every request an id, in the answer's header and in any problem; turn away what no route need see."""
        request.state.request_id = f"req_{secrets.token_hex(8)}"
        refusal = foreign_host(request, settings.allowed_hosts) or foreign_origin(request) or oversized(request)
        answer = refusal or await call_next(request)
        answer.headers["X-Request-ID"] = request.state.request_id
        return answer

    for room in (jobs, events, artifacts, teachers, datasets, profiles, catalogue):
        # Bodies that announce their size never get this far: `oversized` refuses them.
        app.include_router(room.router, prefix="/v1", max_body_size=JSON_BYTES)
    # The route of a part counts its bytes itself, so that its refusal can say how large a part may be.
    app.include_router(uploads.router, prefix="/v1")
    app.include_router(health.router)
    return app


def open_services(settings: Settings) -> Services:
    """Open the data folder and the database, and bring both sets of tables up to date."""
    files = Files(settings.data_dir)
    database = connect(settings.url)
    upgrade(database, files.root / "migrate.lock")
    engine = EngineClient(database)
    engine.prepare()
    return Services(settings, database, session_factory(database), files, engine)


def foreign_host(request: Request, allowed: Sequence[str]) -> Response | None:
    """Another name for this machine is how a web page from elsewhere gets past its own origin (DNS rebinding)."""
    host = re.sub(r":\d*$", "", request.headers.get("host", "")).lower()
    for name in allowed:
        if name == "*" or host == name.lower() or (name.startswith("*.") and host.endswith(name[1:].lower())):
            return None
    detail = f"this server does not go by the name {host!r}; add it to ARCHSEARCH_ALLOWED_HOSTS"
    return problems.refuse(400, "foreign_host", "Request for another host", detail, request)


def foreign_origin(request: Request) -> Response | None:
    """A web page from elsewhere must not make a browser on this machine submit jobs (CVE-2025-14279 in MLflow)."""
    origin = request.headers.get("origin")
    if not origin or request.method in ("GET", "HEAD") or origin.partition("://")[2] == request.headers.get("host"):
        return None
    detail = f"pages from {origin} may not change anything here"
    return problems.refuse(403, "foreign_origin", "Request from another site", detail, request)


def oversized(request: Request) -> Response | None:
    """A body that says itself that it is too large for JSON; one that does not say is counted as it arrives."""
    length = request.headers.get("content-length", "")
    if (
        not length.isdecimal()
        or _PART.fullmatch(request.scope["path"])
        or (len(length) < 20 and int(length) <= JSON_BYTES)
    ):
        return None
    detail = f"a request may have {JSON_BYTES:,} bytes; send files in parts, PUT /v1/uploads/{{id}}/parts/{{n}}"
    return problems.refuse(413, "too_large", "Too large", detail, request)
