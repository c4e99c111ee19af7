"""Whether the service is alive, and whether it can work."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from archsearch import __version__
from archsearch.engine import living_workers, worker_devices
from archsearch.store import queries

from ..deps import ServicesDep
from ..room import Room

router = Room(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Needs no thread, so it does however busy the others are."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz")
def readyz(response: Response, services: ServicesDep) -> dict[str, Any]:
    """The database answers and a worker lives; 503 without a worker, for then jobs only queue."""
    with services.reading() as session:
        jobs = queries.counts_by_status(session)
    workers = living_workers(services.files.workers)
    if not workers:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return {
        "status": "ok" if workers else "no worker",
        "database": services.database.dialect.name,
        "workers": workers,
        "devices": worker_devices(services.files.workers, workers),
        "jobs": jobs,
    }
