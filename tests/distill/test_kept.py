from __future__ import annotations

import numpy as np
import pytest
import torch

from archsearch.distill.kept import TOP, Likeliest, Whole, filled, form_of
from archsearch.distill.loss import Outputs
from archsearch.kernels import softened_kl

CLASSES = 100


def logits(seed: int, images: int = 6, classes: int = CLASSES) -> torch.Tensor:
    return 3 * torch.randn(images, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", [Whole(CLASSES), Likeliest(CLASSES), Likeliest(CLASSES, top=3)])
def test_answers_are_read_as_they_were_shown(form: Whole | Likeliest) -> None:
    shown = form.shown(logits(0))
    kept_BW = form.written(shown)
    assert kept_BW.dtype == np.float16
    assert kept_BW.shape == (6, form.width)
    read = form.read(kept_BW, torch.device("cpu"))
    assert torch.equal(read.answers_MK, shown.answers_MK)
    assert (read.rest_M is None) == (shown.rest_M is None)
    if read.rest_M is not None and shown.rest_M is not None:
        assert torch.equal(read.rest_M, shown.rest_M)


def test_the_likeliest_classes_keep_their_probabilities_and_the_rest_its_mass() -> None:
    teacher, student = logits(0), logits(1)
    found = filled(Likeliest(CLASSES).shown(teacher), student).answers_MK.softmax(1)
    wanted = teacher.softmax(1)
    likely_BL = wanted.topk(TOP, dim=1).indices
    torch.testing.assert_close(found.gather(1, likely_BL), wanted.gather(1, likely_BL), rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(found.sum(1), torch.ones(6))
    rest_s = student.scatter(1, likely_BL, -torch.inf).softmax(1)
    rest_t = found.scatter(1, likely_BL, 0)
    torch.testing.assert_close(rest_t / rest_t.sum(1, keepdim=True), rest_s)


def test_the_gradient_is_that_of_all_classes_for_the_likeliest_and_moves_the_others_as_one() -> None:
    """Of KL at T = 1 beside the same with one class for all others, worked out by hand."""
    teacher, student = logits(0).double(), logits(1).double().requires_grad_()
    kept = filled(Likeliest(CLASSES).shown(teacher.float()), student)
    (found,) = torch.autograd.grad(softened_kl(student, kept.answers_MK, 1.0), student)
    likely_BL = teacher.topk(TOP, dim=1).indices
    exact = (student.softmax(1) - teacher.softmax(1)).detach() / len(student)
    torch.testing.assert_close(
        found.gather(1, likely_BL), exact.gather(1, likely_BL), rtol=5e-3, atol=1e-5, check_dtype=False
    )
    others = torch.ones_like(found).scatter(1, likely_BL, 0).bool()
    mass_s = student.detach().softmax(1).masked_fill(~others, 0)
    mass_t = teacher.softmax(1).masked_fill(~others, 0).sum(1, keepdim=True)
    as_one = mass_s * (1 - mass_t / mass_s.sum(1, keepdim=True)) / len(student)
    torch.testing.assert_close(found[others], as_one[others], rtol=5e-3, atol=1e-6, check_dtype=False)


def test_all_logits_are_kept_where_that_is_not_too_much() -> None:
    few = form_of(10_000, 50, 100, sampled=True, many=False)
    assert few == Whole(100)
    assert form_of(100_000, 50, 1000, sampled=True, many=False) == Likeliest(1000)
    assert form_of(100_000, 50, 1000, sampled=False, many=False) == Whole(1000), (
        "as ever, of views that are all there are"
    )
    assert form_of(100_000, 50, 1000, sampled=True, many=True) == Whole(1000), "labels of their own have no rest"
    assert form_of(10**9, 50, 2 * TOP, sampled=True, many=False) == Whole(2 * TOP)
    assert Likeliest(1000).width < 1000 / 15


def test_what_has_all_its_answers_is_left_as_it_is() -> None:
    whole = Outputs(logits(0))
    assert filled(whole, logits(1)) is whole
