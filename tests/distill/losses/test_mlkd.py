from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from archsearch.distill.losses.mlkd import MLKD, mlkd
from archsearch.kernels import softened_kl, standardised


def test_mlkd_by_hand(of_logits) -> None:
    """T = 1: student (1/2, 1/2) twice, teacher (3/4, 1/4) and (1/2, 1/2).

    KL is 3/4·ln 3/2 + 1/4·ln 1/2 for one image of two. PPᵀ is 1/2 everywhere, but 5/8 for the teacher's first image
    with itself: one square of 1/8 over two images. PᵀP is 8/16 everywhere against (13, 7; 7, 5)/16: squares of 5, 1, 1
    and 3 sixteenths over two classes.
    """
    value = mlkd(of_logits([[0, 0], [0, 0]], [[math.log(3), 0], [0, 0]]), MLKD(temperatures=(1,)))
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert value.item() == pytest.approx(kl / 2 + 1 / 64 / 2 + 36 / 256 / 2, abs=1e-6)


def test_temperatures_add_up(of_logits, answers) -> None:
    batch = of_logits(answers(0), answers(1))
    parts = [mlkd(batch, MLKD(temperatures=(t,))) for t in (2, 3, 4, 5, 6)]
    torch.testing.assert_close(mlkd(batch, MLKD()), torch.stack(parts).sum())


def test_images_and_classes_are_compared_among_themselves(of_logits) -> None:
    """A student that answers for the wrong image knows as many of each pair, and pays by the divergence alone."""
    student_BK, teacher_BK = torch.eye(2) * 3, torch.eye(2).flip(0) * 3
    value = mlkd(of_logits(student_BK, teacher_BK), MLKD(temperatures=(1,)))
    torch.testing.assert_close(value, softened_kl(student_BK, teacher_BK, 1.0))


def test_logits_may_be_standardised(of_logits, answers) -> None:
    settings = MLKD(standardise=True)
    value = mlkd(of_logits(answers(0), answers(1)), settings)
    torch.testing.assert_close(mlkd(of_logits(9 * answers(0) + 1, answers(1)), settings), value, rtol=1e-4, atol=1e-5)
    plain = mlkd(of_logits(standardised(answers(0)), standardised(answers(1))), MLKD())
    torch.testing.assert_close(plain, value)


def test_no_temperature_is_not_valid() -> None:
    with pytest.raises(ValidationError):
        MLKD(temperatures=())
    with pytest.raises(ValidationError):
        MLKD(temperatures=(0,))
