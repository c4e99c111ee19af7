"""A trial: one candidate and everything known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from archsearch.request import Architecture, Start
from archsearch.spaces import Cost

# Why a search ended: all candidates scored, out of time, nothing better for long, or nothing left to score.
Stop = Literal["candidates", "time", "patience", "exhausted"]

# More rungs than a search has.
_MEASURED = 100


@dataclass(frozen=True)
class Trial:
    """One candidate and everything known about it.

    Attributes:
        space: Name of the space the architecture belongs to.
        cost: In every unit the search's ruler measures.
        score: In nats, higher is better; None when it failed. Of the highest rung reached.
        rungs: The score at every rung reached; without halving there is one rung.
        start: What its student begins with.
        proxies: Each proxy as published; None where it is undefined for this candidate.
        votes: Each voter's share of the score, in nats.
        reason: Why a failed candidate has no score.
        seconds: Wall time from proposal to score.
    """

    number: int
    space: str
    architecture: Architecture
    cost: Cost
    state: Literal["scored", "failed"]
    score: float | None
    proxies: Mapping[str, float | None]
    votes: Mapping[str, float]
    reason: str | None
    seconds: float
    rungs: tuple[float, ...] = ()
    start: Start = "scratch"

    @property
    def rung(self) -> int:
        """How closely it was looked at; scores compare on one rung alone. 0 where it failed.

        What begins with trained weights is measured, where of noise it is guessed what becomes of it: it stands above.
        """
        return len(self.rungs) + (_MEASURED if self.rungs and self.start != "scratch" else 0)

    @property
    def first(self) -> float | None:
        """The score of the lowest rung, the one that all candidates were looked at on; None when it failed."""
        return self.rungs[0] if self.rungs else self.score


def key(space: str, architecture: Architecture) -> str:
    """The same text for the same architecture of a space, whatever the order of its parameters."""
    return f"{space} {json.dumps(architecture, sort_keys=True, separators=(',', ':'))}"
