from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archsearch.distill.loss import losses
from archsearch.distill.losses.l2d_instance import instance_gap

# B batch, D features, K labels


def test_instance_gap_by_hand() -> None:
    """Image 0 has three labels, whose embeddings lie on a line at 0, 1, 3 (student) and 0, 2, 3 (teacher).

    As in the class-aware loss, two pairs differ by 1/2 of a mean distance: 4·1/8 over 3 labels. Image 1 has two labels
    and image 2 none, which teach nothing. The mean is over 3 images.
    """
    student_BK1 = torch.tensor([[0.0, 1.0, 3.0, 50.0], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 2.0]])[..., None]
    teacher_BK1 = torch.tensor([[0.0, 2.0, 3.0, -8.0], [4.0, 2.0, 9.0, 0.0], [1.0, 2.0, 4.0, 8.0]])[..., None]
    y_BK = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert instance_gap(student_BK1, teacher_BK1, y_BK).item() == pytest.approx(4 / 8 / 3 / 3, abs=1e-6)


def test_images_are_not_compared_with_each_other(answers) -> None:
    """Moving all of one image's embeddings changes none of the distances within it."""
    student_BKD, teacher_BKD, y_BK = answers(0, 3, 5, 4), answers(1, 3, 5, 6), torch.ones(3, 5)
    moved_BKD = student_BKD + torch.tensor([100.0, 0.0, -7.0])[:, None, None]
    value = instance_gap(student_BKD, teacher_BKD, y_BK)
    torch.testing.assert_close(instance_gap(moved_BKD, teacher_BKD, y_BK), value, rtol=1e-4, atol=1e-6)
    assert value > 0.01


def test_two_labels_are_refused_because_one_distance_says_nothing(answers, two_classes) -> None:
    found = losses.get("l2d_instance")
    assert "use mld" in (found.refuse(replace(two_classes, kind="multilabel")) or "")
    value = instance_gap(answers(0, 3, 2, 4), answers(1, 3, 2, 6), torch.ones(3, 2))
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_it_is_for_tasks_with_many_labels_only() -> None:
    assert losses.get("l2d_instance").tasks == {"multilabel"}
