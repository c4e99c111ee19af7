from __future__ import annotations

import itertools
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from archsearch.data import Dataset
from archsearch.errors import UnknownName
from archsearch.hardware import fits
from archsearch.request import SearchSpec
from archsearch.search import Bench, Trial, check_search, evaluate, fidelities, key, prepare, search, winner
from archsearch.spaces import Cost, TimmModel, spaces
from archsearch.teachers import Teacher

UNLIMITED = Cost(2**63, 2**63)
SMALL = Cost(60_000, 2_000_000)
# Of the ViTs at 8×8 only those with one head, one block and an MLP of one to three times the width fit.
THREE_FIT = Cost(13_500, 10**9)


@pytest.fixture(scope="module")
def bench(teacher: Teacher, few_digits: Dataset) -> Bench:
    return prepare(spec(), teacher, few_digits)


def spec(**fields: object) -> SearchSpec:
    return SearchSpec.model_validate({"candidates": 6, "batch_size": 16, **fields})


def told(trials: list[Trial]) -> list[tuple]:
    """A trial without the time it took."""
    return [(t.number, key(t.architecture), t.cost, t.state, t.rungs, dict(t.votes), t.reason) for t in trials]


def test_a_search_scores_as_many_as_asked_and_all_are_within_the_budget(bench: Bench) -> None:
    trials = list(search(spec(), bench, SMALL))
    assert [trial.number for trial in trials] == list(range(6))
    for trial in trials:
        assert trial.state == "scored"
        assert fits(trial.cost, SMALL)
        assert trial.score == pytest.approx(sum(trial.votes.values()))
        assert math.isfinite(trial.score)
        spaces.get("resnet_cifar").check(trial.architecture, bench.task)


def test_a_budget_that_one_in_a_thousand_meets_is_never_exceeded(bench: Bench) -> None:
    space, limit = spaces.get("resnet_cifar"), Cost(20_000, 500_000)
    rng = random.Random(0)
    parameters = space.parameters(bench.task)
    chance = [{p.name: rng.choice(p.values) for p in parameters} for _ in range(1000)]
    assert sum(fits(space.cost(a, bench.task), limit) for a in chance) < 1
    trials = list(search(spec(candidates=12), bench, limit))
    assert len(trials) == 12
    assert all(fits(trial.cost, limit) for trial in trials)
    # It steps down to the edge instead of falling back to the very smallest.
    smallest = space.cost(space.smallest(bench.task), bench.task)
    assert max(trial.cost.macs for trial in trials) > max(2 * smallest.macs, limit.macs // 2)


def test_a_candidate_beyond_the_budget_fails_before_it_is_built(bench: Bench) -> None:
    space = spaces.get("resnet_cifar")
    architecture = space.smallest(bench.task)
    cost = space.cost(architecture, bench.task)
    trial = evaluate(spec(), space, bench, architecture, Cost(cost.params - 1, cost.macs))
    assert (trial.state, trial.score) == ("failed", None)
    assert "beyond the budget" in trial.reason


@pytest.fixture(scope="module")
def whole(bench: Bench) -> list[Trial]:
    """A search long enough to leave TPE's random start-up behind."""
    return list(search(spec(candidates=24), bench, SMALL))


@pytest.mark.parametrize("stop", [0, 5, 20, 24])
def test_a_resumed_search_goes_on_exactly_as_it_would_have(bench: Bench, whole: list[Trial], stop: int) -> None:
    rest = list(search(spec(candidates=24), bench, SMALL, done=whole[:stop]))
    assert told(whole[:stop] + rest) == told(whole)


def test_no_architecture_is_scored_twice(whole: list[Trial]) -> None:
    assert len({key(trial.architecture) for trial in whole}) == 24


def test_the_samplers_differ_once_there_is_something_to_learn_from(bench: Bench, whole: list[Trial]) -> None:
    by_chance = list(search(spec(candidates=24, sampler="random"), bench, SMALL, done=whole[:20]))
    assert told(by_chance) != told(whole[20:])


def test_the_random_sampler_resumes_too(bench: Bench) -> None:
    random_spec = spec(candidates=5, sampler="random")
    trials = list(search(random_spec, bench, SMALL))
    assert told(trials[:2] + list(search(random_spec, bench, SMALL, done=trials[:2]))) == told(trials)


def test_the_seed_decides_the_search(teacher: Teacher, few_digits: Dataset) -> None:
    def run(seed: int) -> list[tuple]:
        here = spec(candidates=3, seed=seed)
        return told(list(search(here, prepare(here, teacher, few_digits), SMALL)))

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_a_search_leaves_the_random_numbers_of_its_caller_alone(bench: Bench) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(search(spec(candidates=1), bench, SMALL))
    assert torch.get_rng_state().equal(state)


def test_a_small_space_that_is_exhausted_ends_the_search(bench: Bench) -> None:
    space = spaces.get("vit")
    values = [p.values for p in space.parameters(bench.task)]
    names = [p.name for p in space.parameters(bench.task)]
    all_of_them = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]
    possible = {key(a) for a in all_of_them if fits(space.cost(a, bench.task), THREE_FIT)}
    assert len(possible) == 3
    trials = list(search(spec(space="vit", candidates=50), bench, THREE_FIT))
    assert {key(trial.architecture) for trial in trials} == possible
    assert list(search(spec(space="vit", candidates=50), bench, THREE_FIT, done=trials)) == []


def test_the_time_limit_ends_the_search(bench: Bench) -> None:
    started = time.monotonic()
    trials = list(search(spec(candidates=100_000, time_limit_s=0.3), bench, SMALL))
    assert 1 <= len(trials) < 1000
    assert time.monotonic() - started < 10


WIDTH_MATTERS = spec(candidates=10, score={"semantic": 1.0})


@pytest.fixture(scope="module")
def heads(teacher: Teacher, few_digits: Dataset) -> Bench:
    return prepare(WIDTH_MATTERS, teacher, few_digits)


@pytest.fixture
def failing(heads: Bench) -> list[Trial]:
    """`semantic` is undefined for a student whose head is not as wide as the teacher's: most of them, not all."""
    return list(search(WIDTH_MATTERS, heads, Cost(25_000, 10**9)))


def test_a_failed_candidate_says_why_and_never_wins(heads: Bench, failing: list[Trial]) -> None:
    width = heads.rungs[-1].teacher.head_gradient_KD.shape[1]
    for trial in failing:
        fitting = trial.architecture["width3"] == width
        assert (trial.state == "scored") is (trial.score is not None) is fitting
        assert fitting or f"the teacher's {width}" in trial.reason
    assert {trial.state for trial in failing} == {"scored", "failed"}
    assert winner(failing).score == max(trial.score for trial in failing if trial.score is not None)
    assert winner([trial for trial in failing if trial.state == "failed"]) is None


def test_a_search_with_failures_resumes_exactly_too(heads: Bench, failing: list[Trial]) -> None:
    rest = list(search(WIDTH_MATTERS, heads, Cost(25_000, 10**9), done=failing[:6]))
    assert told(failing[:6] + rest) == told(failing)


def test_a_candidate_that_does_not_fit_the_machine_fails_alone(bench: Bench) -> None:
    """Counted on the meta device like any other; its 9·2⁴⁰ weights a layer are then refused by the allocator."""
    space = spaces.get("resnet_cifar")
    huge = replace(space, model=lambda a, task: TimmModel("cifar_resnet", {"widths": [8, 8, 2**20]}))
    trial = evaluate(spec(), huge, bench, space.smallest(bench.task), UNLIMITED)
    assert trial.state == "failed"
    assert "memory" in trial.reason


def test_of_equal_scores_the_smaller_wins_then_the_earlier(whole: list[Trial]) -> None:
    first = replace(whole[0], number=0, score=1.0, cost=Cost(100, 1))
    smaller = replace(first, number=1, cost=Cost(90, 1))
    later = replace(smaller, number=2)
    assert winner([first, later, smaller]) is smaller
    assert winner([first, replace(later, score=1.5), smaller]).number == 2
    assert winner([]) is None


def test_the_batch_takes_every_class_in_turn(teacher: Teacher, digits: Dataset) -> None:
    for size in (16, 64):
        counts_K = np.bincount(prepare(spec(batch_size=size), teacher, digits).rungs[0].y_B.numpy(), minlength=10)
        assert counts_K.sum() == size
        assert counts_K.max() - counts_K.min() <= 1


@pytest.fixture(scope="module")
def halved(teacher: Teacher, few_digits: Dataset) -> tuple[SearchSpec, Bench]:
    wants = spec(candidates=20, batch_size=64, seeds=3, halving=2)
    return wants, prepare(wants, teacher, few_digits)


def test_rungs_double_images_and_initialisations(halved: tuple[SearchSpec, Bench]) -> None:
    wants, bench = halved
    assert fidelities(wants) == [(16, 1), (32, 2), (64, 3)]
    assert [(len(rung.y_B), rung.seeds) for rung in bench.rungs] == [(16, 1), (32, 2), (64, 3)]
    # The images of a lower rung are among those of the next.
    few, many = ({image.numpy().tobytes() for image in rung.x_BCHW} for rung in bench.rungs[:2])
    assert few < many
    assert fidelities(spec(batch_size=64, seeds=3)) == [(64, 3)]


def test_halving_looks_closely_at_few_and_the_winner_is_among_them(halved: tuple[SearchSpec, Bench]) -> None:
    wants, bench = halved
    trials = list(search(wants, bench, SMALL))
    reached = [len(trial.rungs) for trial in trials]
    assert len(trials) == 20
    assert reached[0] == 3
    assert 1 <= reached.count(3) < reached.count(1)
    assert all(trial.score == trial.rungs[-1] for trial in trials)
    # At its rung, nobody who stopped was among the best half of those seen until then.
    for i, trial in enumerate(trials):
        last = len(trial.rungs) - 1
        others = [t.rungs[last] for t in trials[:i] if len(t.rungs) > last]
        among_best = sum(other > trial.rungs[last] for other in others) < max(1, (len(others) + 1) // 2)
        assert among_best is (len(trial.rungs) == 3) or last == 2
    best = winner(trials)
    assert len(best.rungs) == 3
    assert best.score == max(trial.score for trial in trials if len(trial.rungs) == 3)


@pytest.mark.parametrize("stop", [1, 9])
def test_halving_resumes_exactly_too(halved: tuple[SearchSpec, Bench], stop: int) -> None:
    wants, bench = halved
    whole = list(search(wants, bench, SMALL))
    rest = list(search(wants, bench, SMALL, done=whole[:stop]))
    assert told(whole[:stop] + rest) == told(whole)


def test_seeds_are_averaged(bench: Bench, teacher: Teacher, few_digits: Dataset) -> None:
    space = spaces.get("resnet_cifar")
    architecture = space.smallest(bench.task)
    one = [evaluate(spec(seeds=1, seed=seed), space, bench, architecture, UNLIMITED).score for seed in (0, 1)]
    both = spec(seeds=2)
    averaged = evaluate(both, space, prepare(both, teacher, few_digits), architecture, UNLIMITED)
    assert averaged.score == pytest.approx(sum(one) / 2)
    assert one[0] != one[1]


def test_the_teacher_is_looked_at_once_for_all_searches(
    teacher: Teacher, few_digits: Dataset, tmp_path: Path, bench: Bench
) -> None:
    first = prepare(spec(), teacher, few_digits, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    blind = replace(teacher, model=nn.Identity())
    again = prepare(spec(), blind, few_digits, cache=tmp_path)
    assert again.rungs[0].teacher.logits_BK.equal(first.rungs[0].teacher.logits_BK)
    assert first.rungs[0].teacher.logits_BK.equal(bench.rungs[0].teacher.logits_BK)
    # The same weights that see images otherwise give other answers.
    darker = replace(teacher, mean=tuple(m + 0.5 for m in teacher.mean))
    answers_BK = prepare(spec(), darker, few_digits, cache=tmp_path).rungs[0].teacher.logits_BK
    assert not answers_BK.equal(first.rungs[0].teacher.logits_BK)


def test_half_precision_leaves_the_ranking_alone(teacher: Teacher, few_digits: Dataset) -> None:
    """The same candidates in bf16 and in fp32; the program `benchmarks.ranking` says it of the tables."""
    rng = random.Random(0)
    space = spaces.get("resnet_cifar")
    few = [{p.name: rng.choice(p.values[:4]) for p in space.parameters(few_digits.task)} for _ in range(24)]
    scores = []
    for precision in ("fp32", "bf16"):
        wants = spec(precision=precision)
        bench = prepare(wants, teacher, few_digits)
        scores.append([evaluate(wants, space, bench, a, UNLIMITED).score for a in few])
    assert scores[0] != scores[1]
    assert kendalltau(*scores).statistic >= 0.98


def test_unknown_names_are_refused_before_anything_is_spent() -> None:
    with pytest.raises(UnknownName, match="did you mean 'vit'") as caught:
        check_search(spec(space="vti"))
    assert caught.value.field == "search.space"
    with pytest.raises(UnknownName) as caught:
        check_search(spec(score={"parms": 1.0}))
    assert caught.value.field == "search.score"


def test_an_architecture_has_one_key_whatever_the_order() -> None:
    assert key({"b": 1, "a": 2}) == key({"a": 2, "b": 1}) == '{"a":2,"b":1}'
