"""How many requests are worked on at a time: the rest wait a little, and what is beyond that is told to come again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archsearch.errors import Unavailable

# More of either would only wait for one another: for Python's lock, and for the one writer SQLite lets in. Reads of
# PostgreSQL wait for the network as well.
READING = {"sqlite": 2, "postgresql": 6}
WRITING = 3
# At a few hundred requests a second those at the end of the line have waited a second or two.
WAITING, PATIENCE_S = 512, 5.0


class Turnstile:
    """Pure ASGI. A request goes through when one before it has begun to answer, in the order of arrival.

    Slow readers of an answer hold nothing up: they have been let out by then. So have event streams, which count
    themselves what they ask for (`routes/events.py`).

    Args:
        free: Whether a request needs no turn, as it takes no thread or takes its time by nature.
        reading: Requests that read at a time (count).
    """

    def __init__(self, app: ASGIApp, free: Callable[[Scope], bool], reading: int) -> None:
        self._app, self._free = app, free
        self._reading, self._writing = asyncio.Semaphore(reading), asyncio.Semaphore(WRITING)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._free(scope):
            await self._app(scope, receive, send)
            return
        turns = self._reading if scope["method"] in ("GET", "HEAD", "OPTIONS") else self._writing
        await self._enter(turns)
        inside = True

        def leave() -> None:
            nonlocal inside
            if inside:
                inside = False
                turns.release()

        async def sending(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            leave()

    async def _enter(self, turns: asyncio.Semaphore) -> None:
        if self._waiting >= WAITING:
            # Not all at the same moment again.
            raise Unavailable("more requests wait than this server takes", retry_after_s=1 + secrets.randbelow(4))
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await turns.acquire()
        except TimeoutError:
            raise Unavailable("the requests before this one took too long", retry_after_s=2) from None
        finally:
            self._waiting -= 1
