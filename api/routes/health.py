"""Whether the service is alive, and whether it can work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text

from archsearch import __version__
from archsearch.engine import living_workers
from archsearch.store import queries

from ..deps import ServicesDep, SessionDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz")
def readyz(response: Response, session: SessionDep, services: ServicesDep) -> dict[str, Any]:
    """The database answers and a worker lives; 503 without a worker, for then jobs only queue."""
    session.execute(text("SELECT 1"))
    workers = living_workers(services.files.workers)
    if not workers:
        response.status_code = 503
    return {
        "status": "ok" if workers else "no worker",
        "database": session.get_bind().dialect.name,
        "workers": workers,
        "jobs": queries.counts_by_status(session),
    }
