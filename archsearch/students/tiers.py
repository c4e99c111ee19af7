"""The limits of a request's students: each is a request of its own, as if it had been made alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from archsearch import choice
from archsearch.errors import ImpossibleBudget, InvalidRequest
from archsearch.request import LIMITS, JobRequest, StudentLimits

# Of the costs that a share of the teacher's may limit.
_SHARED = ("params", "macs")


@dataclass(frozen=True)
class Tier:
    """One limit of several, and the student that is to be within it.

    Attributes:
        number: From 1, the loosest limit first.
        of: How many there are.
        cost: What is limited, as budgets call it.
        request: With this limit in its budget, and its share of the candidates and the time.
    """

    number: int
    of: int
    cost: str
    limit: float
    request: JobRequest

    def describe(self) -> str:
        return f"{self.cost} ≤ {self.limit:,}"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have an impossible budget say which of the limits it is."""
        try:
            yield
        except ImpossibleBudget as error:
            if self.of == 1:
                raise
            detail = f"student {self.number}: {error.detail}"
            raise ImpossibleBudget(detail, field=f"budget.{self.cost}.{self.number - 1}") from None


def settled(request: JobRequest) -> tuple[JobRequest, Mapping[str, str]]:
    """The request with the limits of its students, where it only says how many they are; and why they are these.

    They are the budget's own limit of the cost that is traded, or limited, and halves of it; where the budget has none,
    the teacher's cost and halves of that.

    Raises:
        InvalidRequest: The teacher's cost in that unit is no limit, or its halves come to nothing.
    """
    if request.how_many == 1 or isinstance(request.students, StudentLimits):
        return request, {}
    cost = choice.traded(request)
    name = next((one for one in (cost, f"{cost}_ratio") if one in request.budget.limits), None)
    if name is None and cost not in _SHARED:
        detail = f"say what {cost} each may have, or give budget.{cost}, of which they get halves"
        raise InvalidRequest(detail, field="students")
    whole = 1.0 if name is None else request.budget.limits[name]
    where = f"the budget limits no {cost}: the teacher's" if name is None else "the budget's limit"
    name = name or f"{cost}_ratio"
    limits = [whole // 2**i if isinstance(whole, int) else whole / 2**i for i in range(request.how_many)]
    if len(set(limits)) < len(limits) or not limits[-1]:
        raise InvalidRequest(f"budget.{name} ({whole:,}) has no {len(limits)} halves; ask for fewer", field="students")
    told = ", ".join(f"{limit:,}" for limit in limits)
    update: dict[str, Any] = {
        "budget": request.budget.model_copy(update={name: limits[0]}),
        "students": StudentLimits.model_validate({name: limits}),
    }
    return request.model_copy(update=update), {"students": f"{where} and halves of it: {name} ≤ {told}"}


def tiers(request: JobRequest) -> tuple[Tier, ...]:
    """A request's limits, the loosest first; the request itself, where it asks for one student alone."""
    request, _ = settled(request)
    if not isinstance(request.students, StudentLimits):
        name, limit = next(iter(request.budget.limits.items()), (LIMITS[0], 0))
        return (Tier(1, 1, name, limit, request),)
    cost, limits = request.students.of
    return tuple(
        Tier(number, len(limits), cost, limit, _alone(request, cost, limit, number))
        for number, limit in enumerate(limits, 1)
    )


def _alone(request: JobRequest, cost: str, limit: float, number: int) -> JobRequest:
    """The request as it would be of this student alone.

    The first has twice the share of each other one, whose searches go on from what was found before.
    """
    search, parts = request.search, request.how_many + 1
    small = search.candidates // parts
    share: dict[str, Any] = {"candidates": max(1, search.candidates - small * (parts - 2) if number == 1 else small)}
    if search.time_limit_s is not None:
        share["time_limit_s"] = search.time_limit_s * (2 if number == 1 else 1) / parts
    update: dict[str, Any] = {
        "students": 1,
        "budget": request.budget.model_copy(update={cost: limit}),
        "search": search.model_copy(update=share),
    }
    return request.model_copy(update=update)
