from __future__ import annotations

import dataclasses

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.errors import ImpossibleBudget
from archsearch.hardware.predict import pick_members
from archsearch.request import Architecture
from archsearch.spaces import Count, Space


def test_members_are_the_same_for_the_same_seed(space: Space, task: ImageTask) -> None:
    first, again, other = (pick_members(space, task, None, 20, seed) for seed in (3, 3, 4))
    assert first == again != other
    assert len({tuple(member.values()) for member in first}) == 20
    for member in first:
        space.check(member, task)


def test_the_extremes_are_among_the_members(space: Space, task: ImageTask) -> None:
    members = pick_members(space, task, None, 20, 0)
    assert space.smallest(task) in members
    assert space.largest(task) in members


def test_members_are_feasible_even_where_few_are(space: Space, task: ImageTask) -> None:
    def feasible(architecture: Architecture) -> bool:
        return space.count(architecture, task).params <= 20_000

    share = sum(feasible(member) for member in pick_members(space, task, None, 20, 0)) / 20
    members = pick_members(space, task, feasible, 20, 0)
    assert share < 0.2
    assert len(members) == 20
    assert all(feasible(member) for member in members)


def test_members_spread_over_the_sizes(space: Space, task: ImageTask) -> None:
    macs = sorted(space.count(member, task).macs for member in pick_members(space, task, None, 20, 0))
    assert macs[-1] / macs[0] > 100
    assert macs[10] < macs[-1] / 2


def test_a_budget_nothing_fits_is_refused(space: Space, task: ImageTask) -> None:
    with pytest.raises(ImpossibleBudget, match="resnet_cifar"):
        pick_members(space, task, lambda architecture: False, 20, 0)


def test_a_small_space_gives_all_it_has(space: Space, task: ImageTask) -> None:
    only = dataclasses.replace(space, parameters=lambda task: space.parameters(task)[:1], count=_depth_count(space))
    assert len(pick_members(only, task, None, 20, 0)) == 9


def _depth_count(space: Space):
    def count(architecture: Architecture, task: ImageTask) -> Count:
        return space.count({**space.smallest(task), **architecture}, task)

    return count
