"""What the search found: the front of score against a cost, its knee, and the winner."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from archsearch.search.trial import Trial


def winner(trials: Iterable[Trial], choose: Literal["best", "knee"] = "best", trade: str | None = None) -> Trial | None:
    """The best score of the highest rung, or the knee of the front; None when nothing was scored.

    Of equal scores the one with fewer parameters wins, then the earlier one.
    """
    if choose == "knee":
        if trade is None:
            raise ValueError("a knee needs a cost to trade")
        return knee(front(trials, trade), trade)
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda t: (t.rung, t.score, -t.cost.params, -t.number), default=None)


def front(trials: Iterable[Trial], trade: str) -> list[Trial]:
    """Those that no other beats in score without costing more, from the cheapest to the dearest.

    Only candidates that reached the highest rung any has reached compare: scores of a lower rung come from fewer
    images. Of candidates equal in both, the one with fewer parameters stays, then the earlier one. Trials that do not
    know the cost are left out.
    """
    scored = [trial for trial in trials if trial.score is not None and getattr(trial.cost, trade) is not None]
    highest = max((trial.rung for trial in scored), default=0)
    contenders = [trial for trial in scored if trial.rung == highest]
    kept: list[Trial] = []
    best = -math.inf
    for trial in sorted(contenders, key=lambda t: (getattr(t.cost, trade), *_preference(t))):
        if _score(trial) > best:
            kept.append(trial)
            best = _score(trial)
    return kept


def knee(front: Sequence[Trial], trade: str) -> Trial | None:
    """Where the next nat begins to cost more: the member farthest above the chord from the front's cheap to dear end.

    Score and the logarithm of the cost are scaled to 0…1 between the ends, so that the chord is the diagonal and the
    distance is score minus cost (Das 1999; Kneedle, Satopää et al. 2011). With fewer than three members, or with none
    above the chord, the best score; of equal distances the one with fewer parameters, then the earlier one.

    Args:
        front: As `front` gives it for the same `trade`, from the cheapest to the dearest.
    """
    if len(front) < 3:
        return front[-1] if front else None
    costs = [math.log(max(getattr(trial.cost, trade), 1e-12)) for trial in front]
    scores = [_score(trial) for trial in front]
    width, height = costs[-1] - costs[0], scores[-1] - scores[0]

    def above(i: int) -> float:
        # Rounded, so that what is equal on paper is equal here.
        return round((scores[i] - scores[0]) / height - (costs[i] - costs[0]) / width, 9)

    best = min(range(len(front)), key=lambda i: (-above(i), front[i].cost.params, front[i].number))
    return front[best] if above(best) > 0 else front[-1]


def ranked(trials: Sequence[Trial], trade: str | None, most: int | None = None) -> list[Trial]:
    """The trials on the lowest rung, best first: by score, or layer by layer of the front; failed ones are left out.

    Args:
        most: How many are wanted; None is all of them.
    """
    scored = sorted((t for t in trials if t.first is not None), key=lambda t: (-_first(t), t.cost.params, t.number))
    if trade is None:
        return scored[:most]
    layers: list[Trial] = []
    rest = sorted(scored, key=lambda t: (getattr(t.cost, trade), -_first(t), t.number))
    while rest and (most is None or len(layers) < most):
        best, layer, others = -math.inf, [], []
        for trial in rest:
            if _first(trial) > best:
                layer.append(trial)
                best = _first(trial)
            else:
                others.append(trial)
        layers += sorted(layer, key=lambda t: t.number)
        rest = others
    return layers[:most]


def improves(trial: Trial, others: Sequence[Trial], trade: str | None) -> bool:
    """Whether a trial beats all before it: by score, or, where a cost is traded, by standing on the front."""
    if trial.score is None:
        return False
    if trade is not None:
        return any(member is trial for member in front([*others, trial], trade))
    return all(o.score is None or (o.rung, o.score) < (trial.rung, trial.score) for o in others)


def _preference(trial: Trial) -> tuple[float, int, int]:
    return -_score(trial), trial.cost.params, trial.number


def _score(trial: Trial) -> float:
    assert trial.score is not None
    return trial.score


def _first(trial: Trial) -> float:
    assert trial.first is not None
    return trial.first
