"""Waiting out what passes by itself: a database that is away or locked, a disk that is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from archsearch.errors import ArchsearchError
from archsearch.store.outage import outage
from archsearch.whole import is_full

R = TypeVar("R")

# A restart takes seconds, and nobody waits for the first of these; an administrator takes minutes or a night.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0


def passing(error: BaseException) -> str | None:
    """What to tell of an error that passes by itself; None if waiting would not help."""
    if isinstance(error, ArchsearchError):  # it says what it is; its text may quote whatever a client handed in
        return None
    away = outage(error)
    if away is not None:
        return away.detail
    return "the disk is full" if is_full(error) else None


def outlast(action: Callable[[], R], *, pause: Callable[[float], None], told: Callable[[str], None]) -> R:
    """Do it, again and again as long as errors that pass by themselves stop it; others are raised.

    Args:
        pause: Waits so many seconds; what it raises ends the waiting.
        told: Given the reason before each wait. The error is gone by then, with all that it kept alive.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return action()
        except Exception as error:
            reason = passing(error)
            if reason is None:
                raise
        told(reason)
        pause(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
