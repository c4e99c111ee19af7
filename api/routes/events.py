"""What happens to a job, as JSON or as it happens."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Header, Request, Response
from fastapi.responses import StreamingResponse

from archsearch.store import queries
from archsearch.store.models import Job

from ..deps import Count, Services, ServicesDep
from ..feeds import KEPT
from ..room import Room
from ..schemas import EventAnswer

router = Room(tags=["events"])
_POLL_S, _PING_S = 0.3, 15.0
# For all jobs together news are looked for this often: of many they are told later, and the server is left to others.
_LOOKS_A_SECOND = 50


@router.get("/jobs/{job_id}/events", response_model=list[EventAnswer])
def events(
    job_id: str,
    request: Request,
    services: ServicesDep,
    after: Count = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Any:
    """Events after number `after`. With `Accept: text/event-stream` they are streamed as they happen, until a final
    `done`; a client that lost the connection goes on with `Last-Event-ID`."""
    with services.reading() as session:
        job: Job = queries.require(session, Job, job_id)
        if "text/event-stream" not in request.headers.get("accept", ""):
            return [EventAnswer.model_validate(row) for row in queries.events_after(session, job_id, after)]
        start = int(last_event_id) if last_event_id and re.fullmatch("[0-9]{1,18}", last_event_id) else after
        if queries.is_over(job) and not queries.events_after(session, job_id, start, limit=1):
            # Nothing will ever come; 204 also tells a browser not to connect again.
            return Response(status_code=204)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(request, services, job_id, start), media_type="text/event-stream", headers=headers)


async def stream(request: Request, services: Services, job_id: str, after: int) -> AsyncIterator[str]:
    """Server-sent events: `id` is the number, `event` the type, `data` the JSON.

    A job may end, and be tried again: the stream ends with the last `done` of a job that is over.
    """
    pinged = time.monotonic()
    with services.feeds.watching(job_id, after) as feed:
        while not _leaving(request) and not await request.is_disconnected():
            found, over = await feed.after(after, _pace_s(services))
            for event in found:
                after = event.seq
                data = json.dumps({"at": event.at.isoformat(), **event.data})
                yield f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n"
            if over and (not found or found[-1].type == "done"):
                return
            if time.monotonic() - pinged > _PING_S:
                pinged = time.monotonic()
                yield ": ping\n\n"
            if len(found) < KEPT:
                await asyncio.sleep(_POLL_S)


def _leaving(request: Request) -> bool:
    """Whether the server stops: it ends its streams, and clients go on at the next one."""
    return getattr(request.app.state, "leaving", False)


def _pace_s(services: Services) -> float:
    """Seconds between two looks at one job."""
    return max(_POLL_S, len(services.feeds) / _LOOKS_A_SECOND)
