"""From proxies to one absolute score, in nats.

A score depends on the candidate, the teacher and the batch, never on the other candidates, so it never changes after
it is told and compares across workers, resumes and jobs. Voters are added in a common unit: a magnitude votes with
its logarithm, so "twice as much" weighs the same in every voter and one that is constant over a space falls silent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from archsearch.proxies.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxies

# Unit weights: nothing here is fitted. docs/decisions/0003-first-score.md says why these two.
DEFAULT: Mapping[str, float] = {"params": 1.0, "relative_snip": 1.0}


@dataclass(frozen=True)
class Score:
    """A candidate's score in nats, what each proxy measured, and each voter's share of the score."""

    value: float
    proxies: Mapping[str, float | None]
    votes: Mapping[str, float]


def check_weights(weights: Mapping[str, float] | None, *, field: str = "search.score") -> None:
    """Raise UnknownName for a voter nobody registered."""
    for name in weights or {}:
        proxies.get(name, field=field)


def score(evidence: Evidence, weights: Mapping[str, float] | None = None) -> Score:
    """Measure every proxy and add up the voters.

    Raises:
        Undefined: A voter has no value for this candidate (a dead or disconnected network, for example).
    """
    voters = DEFAULT if weights is None else weights
    measured: dict[str, float | None] = {}
    votes: dict[str, float] = {}
    for proxy in proxies:
        try:
            value = proxy.measure(evidence)
            # A trial is kept as JSON, which has no word for what is not finite.
            measured[proxy.name] = value if math.isfinite(value) else None
            if proxy.name in voters:
                votes[proxy.name] = voters[proxy.name] * proxy.nats(value)
        except Undefined:
            if proxy.name in voters:
                raise
            measured[proxy.name] = None
    return Score(value=sum(votes.values()), proxies=measured, votes=votes)
