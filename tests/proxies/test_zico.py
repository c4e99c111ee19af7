from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.evidence import Weight
from archsearch.proxies.zico import zico


def test_one_layer_by_hand(evidence_of) -> None:
    # Gradients 3 and 1: mean 2, deviation 1. Gradients 2 and −2: mean of sizes 2, deviation 2. Equal ones say nothing.
    one = torch.ones(3, 1)
    halves = [(Weight("w", one, torch.tensor(g)[:, None], False),) for g in ([3.0, 2.0, 5.0], [1.0, -2.0, 5.0])]
    assert zico(evidence_of(zico=tuple(halves))) == pytest.approx(math.log(2 + 1))


def test_it_is_the_published_code(pair) -> None:
    student, batches = pair.student().train(), []
    for x_BCHW, y_B in zip(pair.x_BCHW.split(12), pair.y_B.split(12), strict=True):
        student.zero_grad()
        cross_entropy(student(x_BCHW), y_B).backward()
        batches.append(
            [p.grad.double().numpy().copy() for p in student.parameters() if p.ndim >= 2 and p.grad is not None]
        )
    expected = 0.0
    for layer in zip(*batches, strict=True):
        deviation, size = np.std(layer, axis=0), np.mean(np.abs(layer), axis=0)
        moving = np.nonzero(deviation)
        total = np.sum(size[moving] / deviation[moving])
        expected += np.log(total) if total else 0
    # Weights whose two gradients all but agree count most, and rounding decides how much.
    assert zico(pair.evidence()) == pytest.approx(expected, rel=1e-2)
