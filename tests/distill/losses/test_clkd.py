from __future__ import annotations

import pytest
import torch

from archsearch.distill.losses.clkd import CLKD, clkd


def test_clkd_by_hand(of_logits) -> None:
    """Student (3, 4) and (0, 5); teacher (4, 3) and (0, 5).

    Instances: (0.6, 0.8) against (0.8, 0.6), nothing for the second image: 0.08 over 4 entries.
    Classes: (3, 0) and (4, 0) have the same direction; (4, 5)/√41 against (3, 5)/√34: 2 - 2·37/√(41·34) over 4 entries.
    Correlation: less the image's mean, (-.5, .5; -2.5, 2.5) and (.5, -.5; -2.5, 2.5). Covariances over K - 1 = 1 are
    (.5, 2.5; 2.5, 12.5) and (.5, -2.5; -2.5, 12.5): two squares of 5 over K² = 4.
    """
    batch = of_logits([[3, 4], [0, 5]], [[4, 3], [0, 5]])
    instances, classes, correlation = 0.08 / 4, (2 - 2 * 37 / (41 * 34) ** 0.5) / 4, 2 * 25 / 4
    expected = 0.5 * instances + 1.0 * classes + 0.4 * correlation
    assert clkd(batch, CLKD()).item() == pytest.approx(expected, abs=1e-5)
    apart = CLKD(instances=1000, classes=0, correlation=0)
    assert clkd(batch, apart).item() == pytest.approx(1000 * instances, abs=1e-3)


def test_directions_do_not_see_size_and_correlation_does(of_logits, answers) -> None:
    twice = of_logits(2 * answers(0), answers(0))
    assert clkd(twice, CLKD(correlation=0)).item() == pytest.approx(0, abs=1e-6)
    assert clkd(twice, CLKD()).item() > 0.1


def test_correlation_does_not_see_what_all_classes_share(of_logits, answers) -> None:
    only = CLKD(instances=0, classes=0)
    value = clkd(of_logits(answers(0), answers(1)), only)
    shifted = answers(0) + torch.arange(6)[:, None]
    torch.testing.assert_close(clkd(of_logits(shifted, answers(1)), only), value, rtol=1e-4, atol=1e-5)


def test_one_image_is_finite(of_logits) -> None:
    student_BK = torch.zeros(1, 3, requires_grad=True)
    value = clkd(of_logits(student_BK, [[1, 2, 3]]), CLKD())
    (gradient_BK,) = torch.autograd.grad(value, student_BK)
    assert value.isfinite()
    assert gradient_BK.isfinite().all()
