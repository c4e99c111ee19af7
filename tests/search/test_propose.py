"""Proposals follow from the trials told, and a copy of them is another's to ask."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.hardware import Limits, Ruler
from archsearch.request.search import Sampler
from archsearch.search.propose import Proposals
from archsearch.search.repair import Members
from archsearch.spaces import spaces
from tests.search.conftest import glance, make_spec

LIMITS = Limits(params=60_000, macs=2_000_000)


def proposed(sampler: str, task: ImageTask, count: int, *, copied: bool) -> list[tuple]:
    """What is proposed when every candidate is told its score; `copied` also asks and tells a copy at each step."""
    spec, ruler = make_spec(sampler=sampler, candidates=count), Ruler(task, LIMITS)
    members = {name: Members(spaces.get(name), ruler) for name in ("resnet_cifar", "vit")}
    proposals, found = Proposals(spec, members), []
    for number in range(count):
        candidate = proposals.next()
        assert candidate is not None
        found.append(candidate)
        trial = glance(spec, spaces.get(candidate[0]), None, candidate[1], ruler, number)
        if copied:
            other = proposals.copy()
            assert other.copy().next() == other.next()
            proposals.copy().tell(replace(trial, score=99.0, rungs=(99.0,), state="scored"))
            foreseen = proposals.copy()
            foreseen.tell(trial)
            foreseen = foreseen.next()
        proposals.tell(trial)
        if copied:
            assert foreseen == proposals.copy().next()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_a_copy_proposes_the_same_and_the_original_never_learns_of_it(sampler: str, gray_task: ImageTask) -> None:
    once = proposed(sampler, gray_task, 20, copied=False)
    assert proposed(sampler, gray_task, 20, copied=True) == once
