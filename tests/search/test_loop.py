"""Whole searches on a real teacher: how they begin, go on and end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch

from archsearch.data import Dataset
from archsearch.errors import UnknownName
from archsearch.hardware import Limits, Ruler, fits
from archsearch.request import SearchSpec
from archsearch.search import Bench, Trial, check_search, key, prepare, search, winner
from archsearch.spaces import spaces
from archsearch.teachers import Teacher

LIMITS = Limits(params=60_000, macs=2_000_000)
RESNETS = spaces.get("resnet_cifar")


def begin(spec: SearchSpec, bench: Bench, limits: Limits = LIMITS, done: list[Trial] | tuple = ()):
    return search(spec, bench, Ruler(bench.task, limits), [RESNETS], done)


def test_a_search_scores_as_many_as_asked_and_all_are_within_the_budget(bench: Bench, spec) -> None:
    trials = list(begin(spec(), bench))
    assert [trial.number for trial in trials] == list(range(6))
    for trial in trials:
        assert (trial.state, trial.space) == ("scored", "resnet_cifar")
        assert fits(trial.cost, LIMITS)
        assert trial.score == pytest.approx(sum(trial.votes.values()))
        assert math.isfinite(trial.score)
        RESNETS.check(trial.architecture, bench.task)
        json.dumps(asdict(trial))


@pytest.fixture(scope="module")
def whole(bench: Bench, spec: Callable[..., SearchSpec]) -> list[Trial]:
    """A search long enough to leave the default's random start behind."""
    return list(begin(spec(candidates=20), bench))


@pytest.mark.parametrize("stop", [0, 5, 18, 20])
def test_a_resumed_search_goes_on_exactly_as_it_would_have(bench, whole, spec, told, stop: int) -> None:
    rest = list(begin(spec(candidates=20), bench, done=whole[:stop]))
    assert told(whole[:stop] + rest) == told(whole)


def test_families_are_searched_together(bench: Bench, spec) -> None:
    both = [RESNETS, spaces.get("vit")]
    trials = list(search(spec(candidates=8), bench, Ruler(bench.task, LIMITS), both))
    assert {trial.space for trial in trials} == {"resnet_cifar", "vit"}
    assert all(trial.state == "scored" and fits(trial.cost, LIMITS) for trial in trials)


def test_a_search_leaves_the_random_numbers_of_its_caller_alone(bench: Bench, spec) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(begin(spec(candidates=1), bench))
    assert torch.get_rng_state().equal(state)


def test_a_search_says_why_it_ended(run) -> None:
    assert run(LIMITS, candidates=3)[1] == "candidates"
    assert run(LIMITS, candidates=100_000, time_limit_s=1e-9) == ([], "time")
    assert run(Limits(params=13_500), ["vit"], candidates=50)[1] == "exhausted"


def test_patience_counts_candidates_in_a_row_without_a_better_score(run) -> None:
    trials, stop = run(LIMITS, candidates=1000, patience=7, sampler="random")
    assert stop == "patience"
    best = winner(trials)
    assert best.number == len(trials) - 8
    # Those of an earlier run count as well.
    assert run(LIMITS, done=trials, candidates=1000, patience=7, sampler="random") == ([], "patience")
    rest, _ = run(LIMITS, done=trials[:-3], candidates=1000, patience=7, sampler="random")
    assert [trial.number for trial in rest] == [trial.number for trial in trials[-3:]]


def test_the_time_limit_ends_the_search(bench: Bench, spec) -> None:
    started = time.monotonic()
    trials = list(begin(spec(candidates=100_000, time_limit_s=0.3), bench))
    assert 1 <= len(trials) < 1000
    assert time.monotonic() - started < 10
    # The time of an earlier run counts as well.
    assert list(begin(spec(candidates=100_000, time_limit_s=0.1), bench, done=trials)) == []


@pytest.fixture(scope="module")
def heads(teacher: Teacher, few_digits: Dataset, spec: Callable[..., SearchSpec]) -> tuple[SearchSpec, Bench]:
    """`semantic` is undefined for a student whose head is not as wide as the teacher's: most of them, not all."""
    wants = spec(candidates=12, score={"semantic": 1.0})
    return wants, prepare(wants, teacher, few_digits)


@pytest.fixture(scope="module")
def failing(heads: tuple[SearchSpec, Bench]) -> list[Trial]:
    return list(begin(*heads, Limits(params=25_000)))


def test_a_failed_candidate_says_why_and_never_wins(heads, failing: list[Trial]) -> None:
    width = heads[1].rungs[-1].teacher.head_gradient_KD.shape[1]
    for trial in failing:
        fitting = trial.architecture["width3"] == width
        assert (trial.state == "scored") is (trial.score is not None) is fitting
        assert fitting or f"the teacher's {width}" in trial.reason
    assert {trial.state for trial in failing} == {"scored", "failed"}
    assert winner(failing).score == max(trial.score for trial in failing if trial.score is not None)
    assert winner([trial for trial in failing if trial.state == "failed"]) is None


def test_a_search_with_failures_resumes_exactly_too(heads, failing: list[Trial], told) -> None:
    rest = list(begin(*heads, Limits(params=25_000), done=failing[:8]))
    assert told(failing[:8] + rest) == told(failing)


def test_unknown_names_are_refused_before_anything_is_spent(spec) -> None:
    with pytest.raises(UnknownName) as caught:
        check_search(spec(score={"parms": 1.0}))
    assert caught.value.field == "search.score"


def test_an_architecture_has_one_key_whatever_the_order() -> None:
    assert key("vit", {"b": 1, "a": 2}) == key("vit", {"a": 2, "b": 1}) == 'vit {"a":2,"b":1}'
