from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import losses
from archsearch.distill.losses.dist import DIST, dist


def test_dist_by_hand(of_logits) -> None:
    """τ = 1. Student (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4); teacher (1/2, 1/4, 1/4) and (1/4, 1/4, 1/2).

    Classes: ρ is 1 for the first image. For the second the deviations are (-1, 2, -1)/12 and (-1, -1, 2)/12: ρ = -3/6.
    Images: class 0 moves alike, ρ = 1; class 1 moves for the student alone and class 2 for the teacher alone, ρ = 0.
    """
    two, four = math.log(2), 0.0
    student, teacher = [[two, four, four], [four, two, four]], [[two, four, four], [four, four, two]]
    classes, images = 1 - (1 - 0.5) / 2, 1 - 1 / 3
    value = dist(of_logits(student, teacher), DIST(temperature=1, beta=5, gamma=7))
    assert value.item() == pytest.approx(5 * classes + 7 * images, abs=1e-5)


def test_linear_relations_are_perfect_and_equality_is_not_asked(of_logits) -> None:
    """Probabilities p/2 + 1/6 correlate with p completely, class by class and image by image."""
    p_BK = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.05, 0.9, 0.05]])
    settings = DIST(temperature=1)
    assert dist(of_logits((p_BK / 2 + 1 / 6).log(), p_BK.log()), settings).item() == pytest.approx(0, abs=1e-5)
    assert dist(of_logits(p_BK.flip(1).log(), p_BK.log()), settings).item() > 1


def test_temperature_enters_squared(of_logits, answers) -> None:
    hot = dist(of_logits(4 * answers(0), 4 * answers(1)), DIST())
    torch.testing.assert_close(hot, 16 * dist(of_logits(answers(0), answers(1)), DIST(temperature=1)))


def test_one_image_has_no_relations_between_images(of_logits, answers) -> None:
    batch = of_logits(answers(0)[:1], answers(1)[:1])
    assert dist(batch, DIST(beta=0)).item() == 2 * 16
    assert 0 < dist(batch, DIST(gamma=0)).item() < 2 * 2 * 16


def test_two_classes_are_refused_because_they_correlate_always(of_logits, two_classes) -> None:
    assert "use kd" in (losses.get("dist").refuse(two_classes) or "")
    value = dist(of_logits([[0.1, 0.0]], [[5.0, -5.0]]), DIST(gamma=0))
    assert value.item() == pytest.approx(0, abs=1e-4)
