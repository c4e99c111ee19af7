"""Devices whose latency can be limited: the workers' own, and profiles measured on clients' machines."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Query, Response

from archsearch import register
from archsearch.hardware.devices import devices
from archsearch.hardware.profile import read_profile
from archsearch.store import delete, queries
from archsearch.store.models import ProfileRow

from ..deps import Key, ServicesDep
from ..room import Room
from ..schemas import DeviceAnswer, Label, Page, ProfileAnswer

router = Room(tags=["devices"])


@router.get("/devices")
def list_devices() -> list[DeviceAnswer]:
    """Devices a worker may time students on; whether one has them shows when a job asks for it."""
    return [DeviceAnswer(name=device.name, doc=device.doc) for device in devices]


@router.post("/profiles", status_code=202)
def create(
    response: Response,
    services: ServicesDep,
    body: Annotated[dict[str, Any], Body(description="What `archsearch profile --out profile.json` wrote.")],
    name: Annotated[Label | None, Query(max_length=200)] = None,
    idempotency_key: Key = None,
) -> ProfileAnswer:
    """Keep latencies measured on another machine; a budget names them by the id this answers with. Its status goes from
    `checking`, while a worker fits its predictors, to `ready`."""
    profile = read_profile(json.dumps(body).encode())
    with services.transaction() as session:
        row = register.register_profile(session, services.engine, profile, name=name, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/v1/profiles/{row.id}"
    response.headers["Retry-After"] = "1"
    return answer(row)


@router.get("/profiles")
def list_profiles(
    services: ServicesDep, after: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[ProfileAnswer]:
    """Newest first."""
    with services.reading() as session:
        rows, next_after = queries.page(session, ProfileRow, after=after, limit=limit)
    return Page(data=[answer(row) for row in rows], has_more=next_after is not None, next_after=next_after)


@router.get("/profiles/{profile_id}")
def get(profile_id: str, services: ServicesDep) -> ProfileAnswer:
    with services.reading() as session:
        return answer(queries.require(session, ProfileRow, profile_id))


@router.delete("/profiles/{profile_id}", status_code=204)
def remove(profile_id: str, services: ServicesDep, after: BackgroundTasks) -> None:
    """409 while a job needs it."""
    with services.transaction() as session:
        delete.delete_profile(session, profile_id)
    after.add_task(services.sweep)


def answer(row: ProfileRow) -> ProfileAnswer:
    # As it was kept, which is as it was checked: hundreds of entries take long to check once more.
    body, spaces = row.body, Counter(entry["space"] for entry in row.body["entries"])
    return ProfileAnswer(
        id=row.id,
        name=row.name,
        status=row.status,
        error=row.error,
        device=body["device"],
        batch=body["batch"],
        threads=body["threads"],
        spaces=dict(spaces),
        body=body,
        created_at=row.created_at,
    )
