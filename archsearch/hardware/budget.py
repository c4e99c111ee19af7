"""Budgets in absolute numbers, and what is beyond them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from archsearch.data.task import Task
from archsearch.errors import ImpossibleBudget, InvalidRequest
from archsearch.request import Architecture, Budget
from archsearch.spaces import Cost, Space

# Ways down from the smallest member that are tried for a network nearer to an impossible budget.
_DESCENTS = 8


@dataclass(frozen=True)
class Limits:
    """The most each cost may be; None where nothing is limited. Units are those of `Cost`."""

    params: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    peak_activation_bytes: int | None = None
    latency_ms: float | None = None

    def given(self) -> Mapping[str, float]:
        """The limits that are set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def limits(budget: Budget, teacher: Cost | None) -> Limits:
    """The budget in absolute numbers.

    Shares of the teacher need the teacher's cost; without it they do not limit anything yet. What the budget does not
    limit is at most the teacher's, unless it says that it may be more.

    Raises InvalidRequest for a share of what the teacher has none of.
    """
    params = [budget.params, _share("params", budget.params_ratio, teacher.params if teacher else None)]
    macs = [budget.macs, _share("macs", budget.macs_ratio, teacher.macs if teacher else None)]
    most = None if budget.may_exceed_teacher else teacher
    return Limits(
        params=min((limit for limit in params if limit is not None), default=(most.params or None) if most else None),
        macs=min((limit for limit in macs if limit is not None), default=(most.macs or None) if most else None),
        size_bytes=budget.size_bytes,
        peak_activation_bytes=budget.peak_activation_bytes,
        latency_ms=budget.latency_ms,
    )


def excess(cost: Cost, limits: Limits) -> float:
    """How far a cost is beyond the limits, as the sum of log(cost / limit) over those it breaks; 0 within them."""
    beyond = 0.0
    for name, limit in limits.given().items():
        value = getattr(cost, name)
        if value is None:
            raise ValueError(f"{name} is limited and was not measured")
        if value > limit:
            beyond += math.log(value / limit)
    return beyond


def fits(cost: Cost, limits: Limits) -> bool:
    return excess(cost, limits) == 0


def nearest(
    space: Space, task: Task, price: Callable[[Space, Architecture], Cost], limits: Limits, *, most: int = 10**9
) -> tuple[Architecture, Cost]:
    """The member nearest to the limits that steps down (and sideways) from the smallest find; most often it fits.

    Args:
        most: Members whose price is asked (count), where asking takes long.
    """
    asked = 0
    parameters = space.parameters(task)
    if len(parameters) == 1 and not parameters[0].ordered:  # kinds, between which no step leads
        (kinds,) = parameters
        every = [{kinds.name: value} for value in kinds.values[:most]]
        return min(((member, price(space, member)) for member in every), key=lambda found: excess(found[1], limits))
    best = space.smallest(task)
    best_cost = price(space, best)
    for descent in range(_DESCENTS):
        rng = random.Random(descent)
        here = {p.name: rng.choice(p.values) for p in parameters} if descent else dict(best)
        cost = price(space, here)
        improved = True
        while improved and excess(cost, limits) > 0:
            improved = False
            for parameter in rng.sample(parameters, len(parameters)):
                for value in (here[parameter.name] - parameter.step, here[parameter.name] + parameter.step):
                    if value not in parameter.values:
                        continue
                    there = {**here, parameter.name: value}
                    asked += 1
                    if asked > most:
                        return (here, cost) if excess(cost, limits) < excess(best_cost, limits) else (best, best_cost)
                    there_cost = price(space, there)
                    if excess(there_cost, limits) < excess(cost, limits):
                        here, cost, improved = there, there_cost, True
        if excess(cost, limits) < excess(best_cost, limits):
            best, best_cost = here, cost
        if excess(best_cost, limits) == 0:
            break
    return best, best_cost


def require_possible(
    spaces: Sequence[Space],
    task: Task,
    price: Callable[[Space, Architecture], Cost],
    limits: Limits,
    budget: Budget,
    *,
    most: int = 10**9,
) -> tuple[Space, ...]:
    """The spaces in which something fits; raise ImpossibleBudget, naming the nearest possible one, when nothing does.

    Args:
        price: The cost of a member, for every limit that is set.
        most: Members of each space whose price is asked (count).
    """
    found = [(space, nearest(space, task, price, limits, most=most)[1]) for space in spaces]
    able = tuple(space for space, cost in found if fits(cost, limits))
    if able:
        return able
    space, cost = min(found, key=lambda member: excess(member[1], limits))
    needed = " and ".join(
        f"{name} ≥ {getattr(cost, name):,.6g}" if name == "latency_ms" else f"{name} ≥ {getattr(cost, name):,}"
        for name, limit in limits.given().items()
        if getattr(cost, name) > limit
    )
    raise ImpossibleBudget(
        f"{budget.describe()}{_implied(budget, limits)} is below every network of "
        f"{', '.join(s.name for s in spaces)} for this data; the nearest possible budget has {needed} ({space.name}: "
        f"{cost.params:,} parameters and {cost.macs:,} MACs); raise the budget or choose another space",
        field="budget",
    )


def _implied(budget: Budget, limits: Limits) -> str:
    """What the teacher's cost limits beside the budget's own words, for messages."""
    named = {name.removesuffix("_ratio") for name in budget.limits}
    of_teacher = [f"{name} ≤ {limit:,}" for name, limit in limits.given().items() if name not in named]
    if not of_teacher:
        return ""
    return f", and no more than its teacher costs ({' and '.join(of_teacher)}; budget.may_exceed_teacher lifts that),"


def _share(cost: str, ratio: float | None, whole: int | None) -> int | None:
    if ratio is None or whole is None:
        return None
    if whole == 0:
        raise InvalidRequest(
            f"the teacher has no {cost} that could be counted, so there is no share of them; give budget.{cost}",
            field=f"budget.{cost}_ratio",
        )
    return max(1, int(ratio * whole))


UNLIMITED = Limits()
