"""News of a job, looked for once for all who watch it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio.to_thread
from sqlalchemy.orm import Session, sessionmaker

from archsearch.store import queries
from archsearch.store.models import Job
from archsearch.store.outage import outage

from .schemas import EventAnswer

# Events of one look, and so many are kept for those who are a little behind; who is further behind asks for himself.
KEPT = 500

# Events after a number, and whether there will be no others.
News = tuple[list[EventAnswer], bool]
Sessions = sessionmaker[Session]


class Feed:
    """The latest events of one job."""

    def __init__(self, sessions: Sessions, job_id: str, after: int) -> None:
        self._sessions, self._job_id = sessions, job_id
        self._turn, self._looked_at = asyncio.Lock(), -math.inf
        # All events after number `first` that there were at the last look; `last` is the number of the newest.
        self._first = self._last = after
        self._kept: deque[EventAnswer] = deque()
        self._over = False
        self.watchers = 0

    async def after(self, number: int, pace_s: float) -> News:
        """What came after this event; it is looked for where the last look was `pace_s` seconds ago or more."""
        async with self._turn:
            if time.monotonic() - self._looked_at >= pace_s:
                self._keep(*await self._look(self._last))
                self._looked_at = time.monotonic()
        if number < self._first:
            return await self._look(number)
        return [event for event in self._kept if event.seq > number], self._over

    async def _look(self, after: int) -> News:
        return await anyio.to_thread.run_sync(_news, self._sessions, self._job_id, after)

    def _keep(self, found: list[EventAnswer], over: bool) -> None:
        self._kept.extend(found)
        self._over = over
        while len(self._kept) > KEPT:
            self._first = self._kept.popleft().seq
        if self._kept:
            self._last = self._kept[-1].seq


class Feeds:
    """One feed for every job that is watched."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._open: dict[str, Feed] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def watchers(self) -> int:
        """How many streams are open, of all jobs."""
        return sum(feed.watchers for feed in self._open.values())

    @contextmanager
    def watching(self, job_id: str, after: int) -> Iterator[Feed]:
        """A job's feed, for one more watcher, who knows its events up to number `after`."""
        feed = self._open.setdefault(job_id, Feed(self._sessions, job_id, after))
        feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                self._open.pop(job_id, None)


def _news(sessions: Sessions, job_id: str, after: int) -> News:
    """As `_read`; a database that is away for a while has no news."""
    try:
        return _read(sessions, job_id, after)
    except Exception as error:
        if outage(error) is None:
            raise
        return [], False


def _read(sessions: Sessions, job_id: str, after: int) -> News:
    with sessions() as session:
        # Asked first: what it ended with is then among the events.
        job = session.get(Job, job_id)
        over = job is None or queries.is_over(job)
        found = queries.events_after(session, job_id, after, limit=KEPT)
        return [EventAnswer.model_validate(row) for row in found], over
