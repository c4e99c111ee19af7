"""A bench with a real teacher, and searches whose look at a candidate takes no time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from archsearch.data import Dataset
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import Limits, Ruler, fits
from archsearch.request import SearchSpec
from archsearch.search import Bench, Stop, Trial, key, prepare, search
from archsearch.spaces import spaces
from archsearch.teachers import Teacher


def make_spec(**fields: object) -> SearchSpec:
    return SearchSpec.model_validate({"candidates": 6, "batch_size": 16, "space": "resnet_cifar", **fields})


@pytest.fixture(scope="session")
def spec() -> Callable[..., SearchSpec]:
    return make_spec


@pytest.fixture(scope="session")
def bench(teacher: Teacher, few_digits: Dataset) -> Bench:
    return prepare(make_spec(), teacher, few_digits)


@pytest.fixture(scope="session")
def told() -> Callable[[Sequence[Trial]], list[tuple]]:
    """Trials without the time they took."""

    def strip(trials: Sequence[Trial]) -> list[tuple]:
        return [
            (t.number, key(t.space, t.architecture), t.cost, t.state, t.rungs, dict(t.votes), t.reason) for t in trials
        ]

    return strip


def glance(spec, space, bench, architecture, ruler, number=0, seen=()) -> Trial:
    """A score with ups and downs in every parameter; one candidate in five fails."""
    cost = ruler.measure(space, architecture)
    assert fits(cost, ruler.limits), "an infeasible candidate was looked at"
    values = list(architecture.values())
    if sum(values) % 5 == 3:
        return Trial(number, space.name, architecture, cost, "failed", None, {}, {}, "fifth", 0.0)
    value = math.log(cost.params) + sum(math.sin(i + 1 + x) for i, x in enumerate(values))
    return Trial(number, space.name, architecture, cost, "scored", value, {}, {}, None, 0.0, (value,))


@pytest.fixture(scope="session")
def run(gray_task: ImageTask) -> Callable[..., tuple[list[Trial], Stop]]:
    """A whole search of digits-sized networks by `glance`: its trials and why it ended."""

    def whole(
        limits: Limits, names: Sequence[str] = ("resnet_cifar",), done: Sequence[Trial] = (), batch: int = 1, **fields
    ) -> tuple[list[Trial], Stop]:
        asked = make_spec(**fields)
        ruler = Ruler(gray_task, limits, batch=batch, trade=asked.trade)
        searched = [spaces.get(name) for name in names]
        going = search(asked, Bench(gray_task, ()), ruler, searched, done, look=glance)
        trials = []
        while True:
            try:
                trials.append(next(going))
            except StopIteration as end:
                return trials, end.value

    return whole
