from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from archsearch.data import Task
from archsearch.errors import ImpossibleBudget
from archsearch.hardware import fits, limits, measure, measure_model, measure_teacher, require_possible
from archsearch.request import Budget
from archsearch.spaces import Cost, spaces
from archsearch.teachers import Teacher

SPACE = spaces.get("resnet_cifar")


def test_a_net_by_hand() -> None:
    # 3→4 channels, 3×3, on 5×5 positions; then 4·25 → 2. Biases and norms are parameters without MACs.
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 2))
    assert measure_model(model, (3, 5, 5)) == Cost(3 * 4 * 9 + 4 + 8 + 202, 3 * 4 * 9 * 25 + 200)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        measure_model(model, (1, 2, 2))
        assert model.training is training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_measuring_draws_no_random_numbers_and_makes_no_weights(gray_task: Task) -> None:
    state = torch.get_rng_state()
    measure(SPACE, SPACE.largest(gray_task), gray_task)
    assert torch.get_rng_state().equal(state)


def test_a_teacher_costs_what_it_does_at_its_own_resolution(teacher: Teacher, gray_task: Task) -> None:
    own = measure_teacher(teacher, gray_task)
    larger = measure_teacher(dataclasses.replace(teacher, input_hw=(16, 16)), gray_task)
    assert own.params == larger.params == 31_434
    head = 32 * 10
    assert larger.macs - head == 4 * (own.macs - head)


def test_limits_are_absolute_and_the_tighter_one_holds() -> None:
    teacher = Cost(params=1000, macs=5000)
    assert limits(Budget(params=300, params_ratio=0.1), teacher).params == 100
    assert limits(Budget(params=30, params_ratio=0.1), teacher).params == 30
    assert limits(Budget(macs_ratio=0.25), teacher).macs == 1250
    assert limits(Budget(params_ratio=0.0015), teacher).params == 1, "a share is rounded down"


def test_without_a_limit_everything_fits_and_a_share_waits_for_the_teacher() -> None:
    huge = Cost(10**15, 10**15)
    assert fits(huge, limits(Budget(), None))
    assert fits(huge, limits(Budget(params_ratio=0.1), None))
    assert not fits(huge, limits(Budget(params=10), None))


def test_a_cost_fits_up_to_the_limit_and_not_beyond() -> None:
    limit = Cost(10, 20)
    assert fits(Cost(10, 20), limit)
    assert not fits(Cost(11, 20), limit)
    assert not fits(Cost(10, 21), limit)


def test_an_impossible_budget_names_the_smallest_network(gray_task: Task) -> None:
    smallest = SPACE.cost(SPACE.smallest(gray_task), gray_task)
    budget = Budget(params=smallest.params)
    require_possible(SPACE, gray_task, limits(budget, None), budget)
    budget = Budget(params=smallest.params - 1)
    with pytest.raises(ImpossibleBudget, match=f"{smallest.params:,} parameters") as caught:
        require_possible(SPACE, gray_task, limits(budget, None), budget)
    assert caught.value.field == "budget"
