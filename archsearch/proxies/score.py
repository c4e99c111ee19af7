"""From proxies to one absolute score, in nats.

A score depends on the candidate, the teacher and the batch, never on the other candidates, so it never changes after
it is told and compares across workers, resumes and jobs. Voters are added in a common unit: a magnitude votes with
its logarithm, so "twice as much" weighs the same in every voter and one that is constant over a space falls silent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archsearch.evidence import Evidence, Read
from archsearch.proxies.proxy import Undefined, proxies

# Unit weights: nothing here is fitted. docs/decisions/0006-score.md says why these three.
IMAGES = "image_classification"
DEFAULT: Mapping[str, float] = {"capacity": 1.0, "gradient_rank": 1.0, "isometry": 1.0}
# docs/decisions/0020-encoder-score.md says why size alone.
_DEFAULTS: Mapping[str, Mapping[str, float]] = {"text_classification": {"encoder_size": 1.0}}


@dataclass(frozen=True)
class Score:
    """A candidate's score in nats, what each proxy measured, and each voter's share of the score."""

    value: float
    proxies: Mapping[str, float | None]
    votes: Mapping[str, float]


def default_weights(domain: str = IMAGES) -> Mapping[str, float]:
    """Who votes, with which weight, unless the user says otherwise; of a domain nobody judged voters for, as images."""
    return _DEFAULTS.get(domain, DEFAULT)


def votes_in(name: str, among: Iterable[str]) -> dict[str, float]:
    """The domains a proxy votes in by itself, with its weight there."""
    return {domain: default_weights(domain)[name] for domain in among if name in default_weights(domain)}


def check_weights(weights: Mapping[str, float] | None, *, field: str = "search.score") -> None:
    """Raise UnknownName for a voter nobody registered."""
    for name in weights or {}:
        proxies.get(name, field=field)


def reads(weights: Mapping[str, float] | None = None, domain: str = IMAGES) -> frozenset[Read]:
    """What has to be measured for these voters, or for the domain's own."""
    voters = default_weights(domain) if weights is None else weights
    return frozenset[Read]().union(*(proxies.get(name).reads for name in voters))


def score(evidence: Evidence, weights: Mapping[str, float] | None = None, domain: str = IMAGES) -> Score:
    """Evaluate every proxy the evidence allows, and add up the voters, which are the domain's own where none are given.

    Raises:
        Undefined: A voter has no value for this candidate (a dead or disconnected network, for example).
    """
    voters = default_weights(domain) if weights is None else weights
    measured: dict[str, float | None] = {}
    reasons: dict[str, Undefined] = {}
    raw = {}
    for proxy in proxies:
        if proxy.name in voters or proxy.reads <= evidence.measured.keys():
            try:
                raw[proxy.name] = proxy.measure(evidence)
            except Undefined as reason:
                measured[proxy.name], reasons[proxy.name] = None, reason
    values = dict(zip(raw, _floats(raw.values()), strict=True))
    # A trial is kept as JSON, which has no word for what is not finite.
    measured |= {name: value if math.isfinite(value) else None for name, value in values.items()}
    votes = {}
    for name, weight in voters.items():
        if name in reasons:
            raise reasons[name]
        votes[name] = weight * proxies.get(name).nats(values[name])
    return Score(value=sum(votes.values()), proxies=dict(sorted(measured.items())), votes=votes)


def mean(scores: Sequence[Score]) -> Score:
    """The mean of one candidate's scores over seeds; a proxy undefined for one seed has no mean."""
    if len(scores) == 1:
        return scores[0]

    def average(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    measured = {name: average([score.proxies[name] for score in scores]) for name in scores[0].proxies}
    votes = {name: sum(score.votes[name] for score in scores) / len(scores) for name in scores[0].votes}
    return Score(sum(votes.values()), measured, votes)


def _floats(values: Iterable[object]) -> list[float]:
    """Numbers and 0-d tensors as floats; tensors come from their device together, in one wait for it."""
    import torch

    values = list(values)
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    fetched = iter(torch.stack([t.double().reshape(()) for t in tensors]).tolist() if tensors else [])
    return [next(fetched) if isinstance(value, torch.Tensor) else float(value) for value in values]  # type: ignore[arg-type]
