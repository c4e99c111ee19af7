from __future__ import annotations

import random

import pytest

from archsearch.errors import ImpossibleBudget
from archsearch.hardware import Limits, Ruler, fits
from archsearch.search.repair import Members
from archsearch.spaces import Count, spaces


class Counting:
    """A ruler that counts how often it is asked."""

    def __init__(self, ruler: Ruler) -> None:
        self.ruler, self.limits, self.task, self.asked = ruler, ruler.limits, ruler.task, 0

    def estimate(self, space, architecture):
        self.asked += 1
        return self.ruler.estimate(space, architecture)

    def measure(self, space, architecture):
        return self.ruler.measure(space, architecture)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(params=60_000),
        Limits(macs=500_000),
        Limits(size_bytes=60_000),
        Limits(params=20_000, macs=500_000),
    ],
    ids=["params", "macs", "size", "both"],
)
def test_proposals_end_on_the_edge_of_the_budget_and_stay_diverse(gray_task, limits) -> None:
    space = spaces.get("resnet_cifar")
    counting = Counting(Ruler(gray_task, limits))
    members = Members(space, counting)
    before = counting.asked
    rng = random.Random(0)
    mended = [members.mend(members.draw(rng), rng) for _ in range(100)]
    assert (counting.asked - before) / 100 < 40, "estimates a proposal"
    assert all(fits(members.measure(a), limits) for a in mended)
    used = [max(getattr(members.estimate(a), name) / most for name, most in limits.given().items()) for a in mended]
    assert sorted(used)[20] > 0.6
    # Of the tightest there are a few hundred members in all.
    assert len({tuple(a.values()) for a in mended}) > 40


def test_a_proposal_that_fits_is_left_alone(gray_task) -> None:
    members = Members(spaces.get("resnet_cifar"), Ruler(gray_task, Limits(params=10**9)))
    rng = random.Random(0)
    drawn = members.draw(rng)
    assert members.mend(drawn, rng) == drawn


def test_activations_are_confirmed_by_the_exact_count(gray_task) -> None:
    """The closed form is a lower bound: what it lets through is counted again before it is scored."""
    space = spaces.get("resnet_cifar")
    smallest = Ruler(gray_task, Limits(peak_activation_bytes=1)).measure(space, space.smallest(gray_task))
    limits = Limits(peak_activation_bytes=int(1.5 * smallest.peak_activation_bytes))
    members = Members(space, Ruler(gray_task, limits))
    rng = random.Random(0)
    for _ in range(5):
        mended = members.mend(members.draw(rng), rng)
        assert members.ruler.measure(space, mended).peak_activation_bytes <= limits.peak_activation_bytes


class Bumpy:
    """A latency that does not rise with size: odd numbers of layers are slow."""

    def predict(self, count: Count) -> float:
        return 1.0 + 5.0 * (sum(count.layers) % 4 == 1) + count.macs / 1e8


def test_a_cost_that_rises_and_falls_is_held_too(gray_task) -> None:
    space, limits = spaces.get("resnet_cifar"), Limits(latency_ms=1.2)
    members = Members(space, Ruler(gray_task, limits, predictors={"resnet_cifar": Bumpy()}))
    rng = random.Random(0)
    mended = [members.mend(members.draw(rng), rng) for _ in range(100)]
    assert all(members.estimate(a).latency_ms <= 1.2 for a in mended)
    assert len({tuple(a.values()) for a in mended}) > 60


def test_a_space_without_a_member_that_fits_is_left_out(run, gray_task) -> None:
    vit = spaces.get("vit")
    too_small = Limits(params=Ruler(gray_task).estimate(vit, vit.smallest(gray_task)).params - 1)
    trials, _ = run(too_small, ["vit", "resnet_cifar"], candidates=10)
    assert {trial.space for trial in trials} == {"resnet_cifar"}
    with pytest.raises(ImpossibleBudget) as caught:
        run(too_small, ["vit"])
    assert caught.value.field == "budget"


@pytest.mark.slow
def test_a_search_under_limited_activations_scores_nothing_beyond_them(run, gray_task) -> None:
    space = spaces.get("resnet_cifar")
    smallest = Ruler(gray_task, Limits(peak_activation_bytes=1), batch=4).measure(space, space.smallest(gray_task))
    limits = Limits(peak_activation_bytes=2 * smallest.peak_activation_bytes)
    trials, _ = run(limits, batch=4, candidates=18)
    assert len(trials) == 18
    assert all(t.cost.peak_activation_bytes <= limits.peak_activation_bytes for t in trials)
