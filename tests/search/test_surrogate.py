from __future__ import annotations

import math
import random

import numpy as np
import pytest

from archsearch.hardware import Ruler
from archsearch.search.repair import Members
from archsearch.search.surrogate import Features, Reach, choose_reach, expected_improvement, guess
from archsearch.spaces import spaces


def test_it_guesses_scores_it_has_not_seen(gray_task) -> None:
    members = Members(spaces.get("resnet_cifar"), Ruler(gray_task))
    rng = random.Random(0)
    drawn = [("resnet_cifar", members.draw(rng)) for _ in range(120)]
    scores = np.array([math.log(members.estimate(a).params) + math.sin(a["depth1"]) for _, a in drawn])
    features = Features({"resnet_cifar": members})
    told = features.of(drawn[:80])
    reach = choose_reach(told, scores[:80])
    mean_M, deviation_M, _ = guess(told, scores[:80], features.of(drawn[80:]), reach)
    assert np.corrcoef(mean_M, scores[80:])[0, 1] > 0.75
    seen_M = guess(told, scores[:80], told, reach)[1]
    assert deviation_M.mean() > seen_M.mean()


def test_parameters_of_another_space_say_nothing(gray_task) -> None:
    both = {name: Members(spaces.get(name), Ruler(gray_task)) for name in ("resnet_cifar", "vit")}
    rng = random.Random(0)
    rows_NF, costs_NF = Features(both).of([("vit", both["vit"].draw(rng)) for _ in range(20)])
    assert costs_NF.shape == (20, 2)
    varying = (rows_NF.std(0) > 0).sum()
    # Depth, heads, and the MLP's ratio with its four values.
    assert varying == 3 + 4


def test_expected_improvement_by_hand() -> None:
    # At the best itself with deviation 1 it is 1/√(2π); far above it is the gain, far below it is nothing.
    found = expected_improvement(np.array([0.0, 50.0, -50.0]), np.ones(3), 0.0)
    assert found == pytest.approx([1 / math.sqrt(2 * math.pi), 50.0, 0.0])


def test_scores_that_are_all_alike_do_no_harm(gray_task) -> None:
    members = Members(spaces.get("vit"), Ruler(gray_task))
    told = Features({"vit": members}).of([("vit", members.anchor)] * 10)
    mean_M, deviation_M, best = guess(told, np.zeros(10), told, Reach())
    assert np.isfinite([*mean_M, *deviation_M, best]).all()
    assert isinstance(choose_reach(told, np.zeros(10)), Reach)
