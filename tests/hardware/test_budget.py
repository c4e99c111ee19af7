from __future__ import annotations

import math
import random

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.errors import ImpossibleBudget
from archsearch.hardware import UNLIMITED, Limits, Ruler, excess, fits, limits, nearest, require_possible
from archsearch.request import Architecture, Budget
from archsearch.spaces import Cost, Space, spaces

SPACE = spaces.get("resnet_cifar")


def test_limits_are_absolute_and_the_tighter_one_holds() -> None:
    teacher = Cost(params=1000, macs=5000)
    assert limits(Budget(params=300, params_ratio=0.1), teacher).params == 100
    assert limits(Budget(params=30, params_ratio=0.1), teacher).params == 30
    assert limits(Budget(macs_ratio=0.25), teacher).macs == 1250
    assert limits(Budget(params_ratio=0.0015), teacher).params == 1, "a share is rounded down"
    assert limits(Budget(params_ratio=1e-9), teacher).params == 1, "to no less than one"
    assert not fits(Cost(2, 0), limits(Budget(params_ratio=1e-9), teacher))


def test_without_a_limit_everything_fits_and_a_share_waits_for_the_teacher() -> None:
    huge = Cost(10**15, 10**15)
    assert fits(huge, limits(Budget(), None))
    assert fits(huge, limits(Budget(params_ratio=0.1), None))
    assert not fits(huge, limits(Budget(params=10), None))


def test_no_student_costs_more_than_its_teacher_unless_the_budget_says_so() -> None:
    teacher = Cost(params=1000, macs=5000)
    assert limits(Budget(latency_ms=2.0), teacher) == Limits(1000, 5000, latency_ms=2.0)
    assert limits(Budget(peak_activation_bytes=9), teacher) == Limits(1000, 5000, peak_activation_bytes=9)
    assert limits(Budget(params_ratio=0.5), teacher) == Limits(500, 5000)
    # Whoever says how large it may be is taken at his word, of that cost alone.
    assert limits(Budget(latency_ms=2.0, params=9999), teacher) == Limits(9999, 5000, latency_ms=2.0)
    freely = {"may_exceed_teacher": True}
    assert limits(Budget(latency_ms=2.0, **freely), teacher) == Limits(latency_ms=2.0)
    assert limits(Budget(**freely), teacher) == UNLIMITED


def test_an_impossible_budget_says_what_of_it_is_the_teachers(gray_task: ImageTask) -> None:
    budget = Budget(params=10**9)
    most = limits(budget, Cost(params=1000, macs=5000))

    def price(space: Space, architecture: Architecture) -> Cost:
        return space.cost(architecture, gray_task)

    with pytest.raises(ImpossibleBudget, match=r"macs ≤ 5,000; budget.may_exceed_teacher lifts that"):
        require_possible([SPACE], gray_task, price, most, budget)


def test_a_cost_fits_up_to_the_limit_and_not_beyond() -> None:
    limit = Limits(10, 20)
    assert fits(Cost(10, 20), limit)
    assert not fits(Cost(11, 20), limit)
    assert not fits(Cost(10, 21), limit)


def test_every_limit_counts_and_what_was_not_measured_is_an_error() -> None:
    cost = Cost(10, 20, size_bytes=30, peak_activation_bytes=40, latency_ms=5.0)
    assert fits(cost, UNLIMITED)
    assert fits(cost, Limits(10, 20, 30, 40, 5.0))
    for name, value in (("size_bytes", 29), ("peak_activation_bytes", 39), ("latency_ms", 4.9)):
        assert not fits(cost, Limits(**{name: value}))
        with pytest.raises(ValueError, match=f"{name} is limited and was not measured"):
            fits(Cost(10, 20), Limits(**{name: value}))


def test_excess_adds_up_the_logarithms_of_what_is_beyond() -> None:
    cost = Cost(100, 30, latency_ms=2.0)
    assert excess(cost, Limits(params=50, macs=10, latency_ms=4.0)) == pytest.approx(math.log(2) + math.log(3))
    assert excess(cost, Limits(params=100)) == 0


def test_an_impossible_budget_names_the_nearest_possible_one(gray_task: ImageTask) -> None:
    smallest = SPACE.cost(SPACE.smallest(gray_task), gray_task)
    price = Ruler(gray_task).estimate
    budget = Budget(params=smallest.params)
    require_possible([SPACE], gray_task, price, limits(budget, None), budget)
    budget = Budget(params=smallest.params - 1)
    with pytest.raises(ImpossibleBudget, match=f"params ≥ {smallest.params:,}") as caught:
        require_possible([SPACE], gray_task, price, limits(budget, None), budget)
    assert caught.value.field == "budget"
    # With one more space in which something fits, it is possible.
    other = spaces.get("vit")
    assert other.cost(other.smallest(gray_task), gray_task).params > smallest.params
    require_possible([other, SPACE], gray_task, price, Limits(params=smallest.params), budget)


def test_limits_that_contradict_each_other_are_impossible_together(gray_task: ImageTask) -> None:
    price = Ruler(gray_task).estimate
    small = price(SPACE, SPACE.smallest(gray_task))
    assert small.size_bytes is not None
    budget = Budget(macs=10**9, size_bytes=small.size_bytes // 2)
    with pytest.raises(ImpossibleBudget, match=r"size_bytes ≤ .* in fp32 is below every network .* size_bytes ≥"):
        require_possible([SPACE], gray_task, price, limits(budget, None), budget)


def test_the_nearest_member_is_found_where_more_costs_less(gray_task: ImageTask) -> None:
    # A price that falls with depth: the smallest member is the most expensive one.
    def price(space: object, architecture: dict[str, int]) -> Cost:
        return Cost(1000 - 100 * architecture["depth1"], architecture["width1"])

    limit = Limits(params=150, macs=16)
    assert not fits(price(SPACE, SPACE.smallest(gray_task)), limit)
    found, cost = nearest(SPACE, gray_task, price, limit)  # type: ignore[arg-type]
    assert found["depth1"] == 9
    assert fits(cost, limit)


def test_the_nearest_member_fits_wherever_any_does(colour_task: ImageTask) -> None:
    price = Ruler(colour_task, batch=4, trade="peak_activation_bytes").estimate
    rng = random.Random(0)
    for _ in range(10):
        member = {p.name: rng.choice(p.values) for p in SPACE.parameters(colour_task)}
        cost = price(SPACE, member)
        limit = Limits(cost.params, cost.macs, cost.size_bytes, cost.peak_activation_bytes)
        assert fits(nearest(SPACE, colour_task, price, limit)[1], limit)
