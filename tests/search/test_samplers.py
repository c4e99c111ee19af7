"""The contract of every sampler there is: within the budget, nothing twice, resumed exactly, and to the very end."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import get_args

import pytest

from archsearch.errors import InvalidRequest
from archsearch.hardware import Limits, Ruler, fits
from archsearch.request import Sampler
from archsearch.search import Trial, check_search, front, key
from archsearch.search.repair import Members
from archsearch.search.samplers import Evolution
from archsearch.spaces import Cost, spaces

pytestmark = pytest.mark.smoke

LIMITS = Limits(params=60_000, macs=2_000_000)
# Of the ViTs at 8×8 only those with one head, one block and an MLP of one to three times the width fit.
THREE_FIT = Limits(params=13_500)
SAMPLERS = get_args(Sampler)
SPACES = (("resnet_cifar",), ("resnet_cifar", "vit"))
# Long enough to leave every sampler's random start behind; Gaussian processes take half a second a proposal.
CANDIDATES = {"gp": 19, "evolution": 44, "cmaes": 30, "nsga2": 56}


def long_enough(sampler: str) -> int:
    return CANDIDATES.get(sampler, 28)


@pytest.mark.parametrize("names", SPACES, ids=["one", "two"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_stays_within_the_budget_repeats_nothing_and_resumes(run, told, sampler, names) -> None:
    candidates = long_enough(sampler)
    whole, stop = run(LIMITS, names, sampler=sampler, candidates=candidates)
    assert (len(whole), stop) == (candidates, "candidates")
    assert len({key(t.space, t.architecture) for t in whole}) == candidates
    assert {t.space for t in whole} == set(names)
    assert {t.state for t in whole} == {"scored", "failed"}
    for cut in (1, candidates // 2, candidates - 1):
        rest, _ = run(LIMITS, names, done=whole[:cut], sampler=sampler, candidates=candidates)
        assert told(whole[:cut] + rest) == told(whole), f"interrupted after {cut}"


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "cmaes"])
def test_every_sampler_but_one_trades_the_score_against_a_cost(run, told, sampler) -> None:
    candidates = long_enough(sampler)
    whole, _ = run(LIMITS, SPACES[1], sampler=sampler, candidates=candidates, trade="macs")
    assert len(front(whole, "macs")) >= 2
    cut = candidates - 2
    rest, _ = run(LIMITS, SPACES[1], done=whole[:cut], sampler=sampler, candidates=candidates, trade="macs")
    assert told(whole[:cut] + rest) == told(whole)


def test_cmaes_is_refused_where_a_cost_is_traded(spec) -> None:
    with pytest.raises(InvalidRequest, match="use tpe or nsga2") as caught:
        check_search(spec(sampler="cmaes", trade="macs"))
    assert caught.value.field == "search.sampler"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_scored_to_its_last_member(run, gray_task, sampler) -> None:
    space = spaces.get("vit")
    parameters = space.parameters(gray_task)
    everyone = [
        dict(zip([p.name for p in parameters], chosen, strict=True))
        for chosen in itertools.product(*(p.values for p in parameters))
    ]
    possible = {key("vit", a) for a in everyone if fits(Ruler(gray_task).estimate(space, a), THREE_FIT)}
    assert len(possible) == 3
    trials, stop = run(THREE_FIT, ["vit"], sampler=sampler, candidates=50)
    assert {key(t.space, t.architecture) for t in trials} == possible
    assert stop == "exhausted"
    assert run(THREE_FIT, ["vit"], done=trials, sampler=sampler, candidates=50) == ([], "exhausted")


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_few_members_of_a_huge_space_are_all_found(run, gray_task, sampler) -> None:
    """Of three million ResNets these are few; they are walked to, because listing the space would take minutes."""
    space = spaces.get("resnet_cifar")
    smallest = Ruler(gray_task).estimate(space, space.smallest(gray_task))
    limits = Limits(params=2 * smallest.params)
    near = itertools.product(range(1, 5), range(1, 5), range(1, 5), (8, 16, 24), (8, 16, 24), (8, 16, 24))
    names = [p.name for p in space.parameters(gray_task)]
    members = [dict(zip(names, values, strict=True)) for values in near]
    possible = {key(space.name, a) for a in members if fits(Ruler(gray_task).estimate(space, a), limits)}
    trials, stop = run(limits, sampler=sampler, candidates=1000)
    assert {key(t.space, t.architecture) for t in trials} == possible
    assert stop == "exhausted"
    assert 3 < len(possible) < 100


def test_samplers_differ_once_there_is_something_to_learn_from(run, told) -> None:
    guided, _ = run(LIMITS, candidates=24)
    by_chance, _ = run(LIMITS, candidates=24, sampler="random", done=guided[:20])
    assert told(by_chance) != told(guided[20:])


def test_the_seed_decides_the_search(run, told) -> None:
    first, _ = run(LIMITS, candidates=20, seed=1)
    assert told(run(LIMITS, candidates=20, seed=1)[0]) == told(first)
    assert told(run(LIMITS, candidates=20, seed=2)[0]) != told(first)


@pytest.mark.slow
def test_the_default_finds_more_than_chance_does(run) -> None:
    def mean_best(sampler: str) -> float:
        searches = [run(LIMITS, candidates=60, sampler=sampler, seed=seed)[0] for seed in range(4)]
        return sum(max(t.score for t in trials if t.score is not None) for trials in searches) / 4

    assert mean_best("tpe") > mean_best("random")


def test_evolutions_child_differs_from_the_best_of_the_living_in_one_parameter(gray_task, spec) -> None:
    members = Members(spaces.get("resnet_cifar"), Ruler(gray_task))
    evolution = Evolution(spec(sampler="evolution"), {"resnet_cifar": members})
    first = Trial(0, "resnet_cifar", members.anchor, Cost(1, 1), "scored", 0.0, {}, {}, None, 0.0, (0.0,))
    # The very best of all is the oldest of 37, and dead.
    for number in range(37):
        score = 100.0 if number == 0 else 1.0 if number % 4 == 1 else -math.inf
        depth = {**members.anchor, "depth1": 2 if number % 4 == 1 else 1}
        evolution.tell(replace(first, number=number, score=score, rungs=(score,), architecture=depth), asked=True)
    for attempt in range(20):
        _, child = evolution.ask(attempt)
        parent = {**members.anchor, "depth1": 2}
        assert min(sum(child[n] != p[n] for n in child) for p in (parent, members.anchor)) <= 1
