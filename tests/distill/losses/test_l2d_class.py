from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archsearch.distill.loss import LossInputs, Outputs, Settings, Stage, losses
from archsearch.distill.losses.l2d_class import class_gap, l2d_class
from archsearch.errors import InvalidRequest

# B batch, D features, H W space, K labels


def test_class_gap_by_hand() -> None:
    """Label 0 has images 0 to 2, whose embeddings lie on a line at 0, 1, 3 (student) and 0, 2, 3 (teacher).

    Distances 1, 2, 3 with mean 2 become 1/2, 1, 3/2; the teacher's 2, 1, 3 become 1, 1/2, 3/2. Two pairs differ by 1/2:
    Huber's 1/8 each, in both orders, over 3 positives. Label 1 has two images: one distance, its own mean, costs
    nothing. Image 3 is no positive of label 0, wherever it lies. The sum is spread over 4 images.
    """
    student_BK1 = torch.tensor([[0.0, 5.0], [1.0, 7.0], [3.0, 0.0], [100.0, 0.0]])[..., None]
    teacher_BK1 = torch.tensor([[0.0, 2.0], [2.0, 1.0], [3.0, 9.0], [0.0, 0.0]])[..., None]
    y_BK = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert class_gap(student_BK1, teacher_BK1, y_BK).item() == pytest.approx(4 / 8 / 3 / 4, abs=1e-6)


def outputs(seed: int, batch: int, channels: int, size: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    stages = (Stage(torch.randn(batch, channels, size, size, generator=generator)),)
    embedding_BD = torch.randn(batch, channels, generator=generator)
    return Outputs(torch.zeros(batch, 3), stages, embedding_BD, torch.randn(3, channels, generator=generator))


@pytest.fixture
def batch() -> LossInputs:
    y_BK = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    return LossInputs(outputs(0, 5, 4, 2), outputs(1, 5, 6, 3), y_BK, torch.arange(5))


def test_embeddings_in_proportion_cost_nothing(batch) -> None:
    """Distances count relative to their mean: a student that shows its teacher's maps at thrice the size learned all.

    Its classifier's weights are a third, so that both look at the same places.
    """
    teacher = batch.teacher
    same = replace(teacher, stages=(Stage(3 * teacher.maps[0]),), weight_KD=teacher.weight_KD / 3)
    assert l2d_class(replace(batch, student=same), Settings()).item() == pytest.approx(0, abs=1e-6)
    assert l2d_class(batch, Settings()).item() > 1e-3


def test_a_changed_width_before_the_classifier_leaves_the_embedding(batch) -> None:
    """Then the map is one position, the embedding, which is looked at whole."""
    wide = replace(batch.student, stages=(Stage(torch.ones(5, 9, 2, 2)),))
    at_once = replace(batch.student, stages=(Stage(batch.student.embedding_BD[:, :, None, None]),))
    value = l2d_class(replace(batch, student=wide), Settings())
    assert value.equal(l2d_class(replace(batch, student=at_once), Settings()))
    assert not value.equal(l2d_class(batch, Settings()))


def test_labels_of_one_or_two_images_teach_nothing(batch) -> None:
    first_two = torch.zeros(5, 3)
    first_two[:2, 0] = first_two[3, 1] = 1
    student = replace(batch.student, stages=(Stage(batch.student.maps[0].clone().requires_grad_()),))
    value = l2d_class(replace(batch, student=student, targets_M=first_two), Settings())
    (gradient_BDHW,) = torch.autograd.grad(value, student.maps[0])
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert gradient_BDHW.abs().max() < 1e-6


def test_images_that_look_the_same_are_finite(batch) -> None:
    map_BDHW = torch.zeros(5, 4, 2, 2, requires_grad=True)
    value = l2d_class(replace(batch, student=replace(batch.student, stages=(Stage(map_BDHW),))), Settings())
    (gradient_BDHW,) = torch.autograd.grad(value, map_BDHW)
    assert value.isfinite()
    assert gradient_BDHW.isfinite().all()


def test_a_classifier_without_weights_says_what_to_take(batch) -> None:
    headless = replace(batch, student=replace(batch.student, weight_KD=None))
    with pytest.raises(InvalidRequest, match="use mld"):
        l2d_class(headless, Settings())


def test_it_is_for_tasks_with_many_labels_only() -> None:
    assert losses.get("l2d_class").tasks == {"multilabel"}
