"""Answers that take long to find: one is looked for at a time, and all who have asked by then are given it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio.to_thread

T = TypeVar("T")


class Shared(Generic[T]):
    """The latest answer to one question. Whoever waits for it has no thread meanwhile."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._begun_at = -math.inf
        self._found: T | None = None

    async def __call__(self, find: Callable[[], T]) -> T:
        """An answer that was begun after this was called: it knows of all that its caller has done before."""
        asked_at = time.monotonic()
        async with self._turn:
            if self._found is None or self._begun_at < asked_at:
                begun_at = time.monotonic()
                self._found = await anyio.to_thread.run_sync(find)
                self._begun_at = begun_at
            return self._found
