"""Which members of a space are timed: a D-optimal design, so that few say much about all."""

# N members, F features

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from archsearch.data.task import Task
from archsearch.errors import ImpossibleBudget
from archsearch.hardware.predict.features import FEATURES, Floats, featurise
from archsearch.request import Architecture
from archsearch.spaces import Space

# Random members a design is picked from, and how many are looked at for as many that are feasible.
_POOL = 400
_TRIES = 4000


def pick_members(
    space: Space, task: Task, feasible: Callable[[Architecture], bool] | None, n: int, seed: int
) -> list[Architecture]:
    """`n` members far apart in what latency is made of, the smallest and the largest first; the same for the same seed.

    Out of some hundred random members that are feasible, each is taken to be the one the others say least about
    (a D-optimal design, greedily). Fewer come back only where there are fewer.

    Raises:
        ImpossibleBudget: Nothing feasible was found.
    """
    pool = _pool(space, task, feasible or (lambda architecture: True), random.Random(seed))
    if not pool:
        raise ImpossibleBudget(
            f"no member of {space.name} within the budget was found to be timed; raise the budget", field="budget"
        )
    x_NF = featurise([space.count(member, task) for member in pool])
    macs_N = x_NF[:, [name.startswith("work_") for name in FEATURES]].sum(1)
    return [pool[i] for i in spread_out(x_NF, n, first=[int(macs_N.argmin()), int(macs_N.argmax())])]


def spread_out(x_NF: Floats, n: int, *, first: Sequence[int] = ()) -> list[int]:
    """Rows far apart in features and in their logarithms, so that small networks have a say beside large ones."""
    varies_F = np.ptp(x_NF, axis=0) > 0
    x_NF = x_NF[:, varies_F]
    both_NF = np.hstack([x_NF, np.log(x_NF + 0.1 * x_NF.mean(0))])
    both_NF = (both_NF - both_NF.mean(0)) / both_NF.std(0)
    both_NF = np.hstack([np.ones((len(both_NF), 1)), both_NF])
    chosen = list(dict.fromkeys(first))[:n]
    known_FF = 1e-2 * np.eye(both_NF.shape[1]) + both_NF[chosen].T @ both_NF[chosen]
    while len(chosen) < min(n, len(both_NF)):
        news_N = np.einsum("nf,fg,ng->n", both_NF, np.linalg.inv(known_FF), both_NF)
        news_N[chosen] = -1.0
        chosen.append(int(news_N.argmax()))
        known_FF += np.outer(both_NF[chosen[-1]], both_NF[chosen[-1]])
    return chosen


def _pool(space: Space, task: Task, feasible: Callable[[Architecture], bool], rng: random.Random) -> list[Architecture]:
    """Distinct feasible members: the extremes, random ones, and steps from those where random ones seldom are."""
    parameters = space.parameters(task)
    found: dict[tuple[int, ...], Architecture] = {}
    most = min(_POOL, space.cardinality(task))

    def look_at(member: Architecture) -> None:
        if feasible(member):
            found[tuple(member.values())] = member

    look_at(space.smallest(task))
    look_at(space.largest(task))
    for _ in range(_TRIES):
        if len(found) >= most:
            break
        look_at({p.name: rng.choice(p.values) for p in parameters})
    for _ in range(_TRIES):
        if len(found) >= most or not found:
            break
        member, moved = rng.choice(list(found.values())), rng.choice(parameters)
        look_at({**member, moved.name: rng.choice(moved.values)})
    return list(found.values())
