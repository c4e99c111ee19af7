"""Many listeners to one job's events, as a dashboard open on many desks."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Heard:
    """Milliseconds from when an event was written down until a watcher had it, over all watchers and events."""

    watchers: int
    events: int
    p50: float
    p99: float


def listen(url: str, job: str, watchers: int, seconds: float) -> Heard:
    """Open so many streams of one job and listen to what is new."""
    delays_s = asyncio.run(_all(url, job, watchers, seconds))
    p50, p99 = np.quantile(np.array(delays_s or [np.nan]) * 1000, [0.5, 0.99])
    return Heard(watchers, len(delays_s), float(p50), float(p99))


async def _all(url: str, job: str, watchers: int, seconds: float) -> list[float]:
    delays_s: list[float] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(watchers):
            group.create_task(_one(url, job, time.time(), seconds, delays_s))
    return delays_s


async def _one(url: str, job: str, since: float, seconds: float, delays_s: list[float]) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
    path = f"/v1/jobs/{job}/events"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    try:
        async with asyncio.timeout(seconds):
            while line := await reader.readline():
                if not line.startswith(b"data: "):
                    continue
                at = datetime.fromisoformat(json.loads(line[6:])["at"]).timestamp()
                if at > since:  # what was there before is told at once, and is old
                    delays_s.append(time.time() - at)
    except TimeoutError:
        pass
    finally:
        writer.close()
