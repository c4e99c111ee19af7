"""The application: routes, problems, and the checks every request passes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from archsearch import __version__
from archsearch.engine import EngineClient
from archsearch.settings import Settings
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade

from . import problems
from .deps import Services
from .routes import artifacts, catalogue, datasets, events, health, jobs, teachers, uploads

_JSON_BYTES = 2**20


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API. Nothing is opened before it starts; nothing here imports torch."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = opened = open_services(settings)
        yield
        opened.engine.close()

    app = FastAPI(
        title="archsearch",
        version=__version__,
        summary="POST a teacher and a budget, download a distilled student.",
        lifespan=lifespan,
    )
    problems.install(app)
    app.middleware("http")(identify)
    app.middleware("http")(refuse_other_origins)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts, www_redirect=False)
    for room in (jobs, events, artifacts, teachers, datasets, catalogue):
        app.include_router(room.router, prefix="/v1", max_body_size=_JSON_BYTES)
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
    return Services(settings, session_factory(database), files, engine)


async def identify(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give every request an id, in the answer's header and in any problem."""
    request.state.request_id = f"req_{secrets.token_hex(8)}"
    answer = await call_next(request)
    answer.headers["X-Request-ID"] = request.state.request_id
    return answer


async def refuse_other_origins(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """A web page from elsewhere must not make a browser on this machine submit jobs (CVE-2025-14279 in MLflow)."""
    origin = request.headers.get("origin")
    if origin and request.method not in ("GET", "HEAD") and urlsplit(origin).netloc != request.headers.get("host"):
        body = {"type": "urn:archsearch:problem:foreign_origin", "title": "Request from another site"}
        detail = f"pages from {origin} may not change anything here"
        return problems.problem(403, {**body, "code": "foreign_origin", "detail": detail}, request)
    return await call_next(request)
