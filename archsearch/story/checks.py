"""What a request's names, sizes and closed forms can tell to be wrong; nearly all of it needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archsearch import defaults
from archsearch.data.task import Dataset, Task
from archsearch.distill.method import check_method
from archsearch.distill.train import check_distill
from archsearch.hardware import Limits, Ruler, excess, nearest, require_possible
from archsearch.request import Architecture, JobRequest
from archsearch.search import check_search
from archsearch.spaces import Cost, Space, check_name, choose, spaces

# Members of a space whose costs are asked before a budget that nothing holds so far is refused in a request, and how
# far beyond it (as log cost / limit) the nearest of them has to be.
_STEPS, _CLEARLY = 15, 0.7
# Members of a space counted on the meta device before a limit on activations is called impossible.
_COUNTED = 60


def check_request(request: JobRequest, dataset: Dataset | Any) -> None:
    """What names and sizes alone can tell to be wrong; needs no torch.

    Args:
        dataset: Anything with a `task` and a `train` split that has a length.
    """
    check_names(request)
    defaults.scored_on(request, len(dataset.train))
    if defaults.trains(request):
        check_distill(request.distill, dataset)
    if request.student is not None:
        named = request.student
        if named.space is not None and named.architecture is not None and named.space != "teacher":
            spaces.get(named.space, field="student.space").check(named.architecture, dataset.task)
        return
    if request.search.space not in ("auto", "teacher"):
        choose(request.search.space, dataset.task, None)


def check_names(request: JobRequest) -> None:
    """Raise UnknownName for a space, voter or method nobody registered; needs no data."""
    check_method(request.distill)
    if request.student is not None:
        if request.student.space is not None:
            check_name(request.student.space, field="student.space")
        return
    check_name(request.search.space)
    check_search(request.search)


def possible(
    request: JobRequest, spaces: Sequence[Space], task: Task, limits: Limits, *, exactly: bool = False
) -> tuple[Space, ...]:
    """Those spaces that have a member within the budget; raises ImpossibleBudget when none has.

    Latency is left out: it takes a device to tell, and is looked at once its predictor is there.

    Args:
        exactly: Count activations too, which takes torch; the closed form knows only how many there are at least.
    """
    budget = request.budget
    countable = replace(limits, latency_ms=None)
    ruler = Ruler(task, countable, budget.size_precision, budget.batch)
    able = require_possible(spaces, task, ruler.estimate, countable, budget)
    if exactly and countable.peak_activation_bytes is not None:
        able = require_possible(able, task, ruler.measure, countable, budget, most=_COUNTED)
    return able


def check_possible(request: JobRequest, spaces: Sequence[Space], task: Task, limits: Limits) -> None:
    """Raise ImpossibleBudget where some milliseconds tell that nothing fits: less than `possible` finds, never more.

    A budget that is missed by less than a factor of two after a few steps is left for `possible` to judge, in a worker.
    """
    budget = request.budget
    countable = replace(limits, latency_ms=None)
    ruler = Ruler(task, countable, budget.size_precision, budget.batch)

    asked: dict[tuple[str, tuple[int, ...]], Cost] = {}

    def price(space: Space, member: Architecture) -> Cost:
        key = (space.name, tuple(member.values()))
        return asked.get(key) or asked.setdefault(key, ruler.estimate(space, member))

    def unclear(space: Space) -> bool:
        return excess(nearest(space, task, price, countable, most=_STEPS)[1], countable) < _CLEARLY

    if not any(unclear(space) for space in spaces):
        require_possible(spaces, task, price, countable, budget, most=_STEPS)
