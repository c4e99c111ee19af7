"""Candidates scored side by side are the trials of one process, in its order, whatever was guessed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.evidence import NetworkEvidence
from archsearch.hardware import Limits, Ruler
from archsearch.proxies.score import Score
from archsearch.request import Sampler
from archsearch.search import Bench, Rung, Trial, key, search
from archsearch.search.scorers import Told
from archsearch.spaces import spaces
from tests.search.conftest import glance, make_spec

LIMITS = Limits(params=60_000, macs=2_000_000)
SPACES = tuple(spaces.get(name) for name in ("resnet_cifar", "vit"))


class Hands:
    """A pool whose processes are done in any order, and now and then end over their candidate."""

    def __init__(
        self, count: int, ruler: Ruler, seed: int, *, end: float = 0.0, strange: float = 0.0, deadly: str = ""
    ) -> None:
        self.told, self.threads, self.ready, self._rng = Told(count), torch.get_num_threads(), 0, random.Random(seed)
        self._count, self._ruler, self._end, self._ended = count, ruler, end, set[str]()
        self._strange, self._deadly = strange, deadly
        self._doing: dict[str, Mapping[str, Any]] = {}

    @property
    def idle(self) -> int:
        return self.ready - len(self._doing)

    def start(self, name: str, asked: Mapping[str, Any]) -> None:
        assert self.idle
        assert name not in self._doing
        self._doing[name] = asked

    def finished(self, *, wait: bool) -> list[tuple[str, Mapping[str, Any]]]:
        if self.ready < self._count:
            self.ready += self._rng.random() < 0.2
        if not self._doing or not (wait or self._rng.random() < 0.3):
            return []
        name = self._rng.choice(list(self._doing))
        asked = self._doing.pop(name)
        if name not in self._ended and self._rng.random() < self._end:
            self._ended.add(name)
            return [(name, {"ended": -9})]
        if name == self._deadly:
            return [(name, {"ended": -9})]
        if self._rng.random() < self._strange:
            return [(name, {"raised": "KeyError"})]
        trial = glance(None, spaces.get(asked["space"]), None, asked["architecture"], self._ruler)
        reached = [] if trial.score is None else [asdict(Score(trial.score, {}, {}))]
        return [(name, {"reached": reached, "reason": trial.reason, "seconds": 1.0})]


def whole(task: ImageTask, sampler: str, hands: int, done: Sequence[Trial] = (), **fields: Any) -> tuple[list, Told]:
    """A search by `glance`, by itself or by so many hands; what it told, and what came of the guesses."""
    rough = {name: fields.pop(name) for name in ("end", "strange", "deadly") if name in fields}
    spec = make_spec(sampler=sampler, **{"candidates": 40, **fields})
    ruler, nothing = Ruler(task, LIMITS, trade=spec.trade), torch.zeros(1)
    bench = Bench(task, (Rung(nothing, nothing, NetworkEvidence(nothing), 1),))
    pool = Hands(hands, ruler, hands, **rough) if hands else None
    trials = list(search(spec, bench, ruler, SPACES, done, look=glance, pool=pool))
    return trials, Told(0) if pool is None else pool.told


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=[pytest.mark.slow] if name == "cmaes" else []) for name in get_args(Sampler)]
)
def test_every_sampler_tells_the_same_trials_side_by_side(gray_task, told, sampler: str) -> None:
    few = {"candidates": {"gp": 19, "tpe": 24}.get(sampler, 40)}
    alone, _ = whole(gray_task, sampler, 0, **few)
    found, came = whole(gray_task, sampler, 3, **few)
    assert told(found) == told(alone)
    assert 0 < came.used <= came.guesses
    # What looks at no score is foreseen to the last one.
    assert sampler not in ("random", "qmc") or came.used == came.guesses


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "evolution", "nsga2"])
def test_many_hands_a_traded_cost_and_processes_that_end_change_nothing(gray_task, told, sampler: str) -> None:
    alone, _ = whole(gray_task, sampler, 0, trade="macs")
    assert told(whole(gray_task, sampler, 7, trade="macs", end=0.2)[0]) == told(alone)


@pytest.mark.parametrize("sampler", ["evolution", pytest.param("nsga2", marks=pytest.mark.slow)])
def test_a_search_resumes_with_any_number_of_hands(gray_task, told, sampler: str) -> None:
    alone, _ = whole(gray_task, sampler, 0)
    begun, _ = whole(gray_task, sampler, 4, candidates=17)
    rest, _ = whole(gray_task, sampler, 2, done=begun)
    assert told(begun + rest) == told(alone)


def test_patience_ends_a_search_side_by_side_where_it_ends_one_alone(gray_task, told) -> None:
    alone, _ = whole(gray_task, "random", 0, candidates=400, patience=7)
    assert len(alone) < 400
    assert told(whole(gray_task, "random", 4, candidates=400, patience=7)[0]) == told(alone)


def test_what_a_process_fails_with_is_seen_by_the_parent_itself(gray_task, told) -> None:
    alone, _ = whole(gray_task, "evolution", 0)
    assert told(whole(gray_task, "evolution", 3, strange=0.5)[0]) == told(alone)


def test_a_candidate_that_ends_two_processes_is_a_failed_one_and_the_search_goes_on(gray_task) -> None:
    alone, _ = whole(gray_task, "random", 0)
    scored = alone[25]
    assert scored.state == "scored"
    found, _ = whole(gray_task, "random", 3, deadly=key(scored.space, scored.architecture))
    assert (found[25].state, found[25].score) == ("failed", None)
    assert "for want of memory" in found[25].reason
    assert [trial.architecture for trial in found] == [trial.architecture for trial in alone]
    assert [trial.score for trial in found if trial.number != 25] == [t.score for t in alone if t.number != 25]


def test_the_time_of_an_earlier_run_side_by_side_is_what_passed_on_the_clock(gray_task) -> None:
    begun, _ = whole(gray_task, "random", 3, candidates=12)
    took = [replace(trial, seconds=100.0) for trial in begun]
    assert whole(gray_task, "random", 0, done=took, candidates=20, time_limit_s=1000.0)[0] == []
    assert len(whole(gray_task, "random", 3, done=took, candidates=20, time_limit_s=1000.0)[0]) == 8
