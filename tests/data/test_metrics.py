from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from archsearch.data import Dataset
from archsearch.data.metrics import (
    accuracy,
    answers,
    average_precisions,
    balanced,
    macro,
    mean_average_precision,
    metric,
    scores,
)  # fmt: skip

# N images, B batch, K labels


def of_pixels(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Ten scores an image: its first ten pixels."""
    return x_BCHW.flatten(1)[:, 20:30]


def test_average_precision_by_hand() -> None:
    # Ranked 1, 0, 1, 0: found after one image of one and after two of three. (1/1 + 2/3) / 2.
    scores_NK = np.array([[0.9, 5.0], [0.8, 5.0], [0.7, 5.0], [0.1, 5.0]])
    y_NK = np.array([[1, 1], [0, 0], [1, 0], [0, 0]], dtype=np.uint8)
    # Of equal scores none comes first: a quarter of the images that count together is right.
    np.testing.assert_allclose(average_precisions(scores_NK, y_NK), [5 / 6, 1 / 4])


def test_half_of_the_images_tied_by_hand() -> None:
    # One image with the label on top, then one with and two without it, all equal: 1/2 · 1 + 1/2 · 2/4.
    scores_NK = np.array([[2.0], [1.0], [1.0], [1.0]])
    y_NK = np.array([[1], [0], [1], [0]], dtype=np.uint8)
    np.testing.assert_allclose(average_precisions(scores_NK, y_NK), [3 / 4])


def test_a_label_no_image_has_is_left_out() -> None:
    scores_NK = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    y_NK = np.array([[1, 1, 0], [0, 0, 0]], dtype=np.uint8)
    found_K = average_precisions(scores_NK, y_NK)
    assert found_K[:2].tolist() == [1.0, 0.5]
    assert np.isnan(found_K[2])
    assert macro(found_K) == 75
    with pytest.raises(ValueError, match="no image has any label"):
        macro(average_precisions(scores_NK, np.zeros_like(y_NK)))


def test_what_is_no_number_ranks_last() -> None:
    scores_NK = np.array([[np.nan, np.inf], [1.0, 0.0], [-np.inf, -5.0]], dtype=np.float32)
    y_NK = np.array([[0, 1], [1, 0], [0, 0]], dtype=np.uint8)
    assert average_precisions(scores_NK, y_NK).tolist() == [1.0, 1.0]


def test_map_is_the_mean_over_labels_whatever_the_batch(pairs: Dataset) -> None:
    scores_NK = answers(of_pixels, pairs.selection, batch_size=100)
    expected = 100 * np.mean([average_precision_score(pairs.selection.y_N[:, k], scores_NK[:, k]) for k in range(10)])
    for batch_size in (1, 7, 256):
        assert mean_average_precision(of_pixels, pairs.selection, batch_size) == pytest.approx(expected)
    assert pairs.task.chance / 2 < expected < 3 * pairs.task.chance


def test_a_perfect_ranking_is_100_and_knowing_nothing_the_prevalence(pairs: Dataset) -> None:
    known = {x_CHW.numpy().tobytes(): y_K for x_CHW, y_K in zip(pairs.test.images(), pairs.test.labels(), strict=True)}

    def perfect(x_BCHW: torch.Tensor) -> torch.Tensor:
        images = (255 * x_BCHW).round().to(torch.uint8)
        return torch.stack([3 * known[x_CHW.numpy().tobytes()] - 7 for x_CHW in images])

    assert mean_average_precision(perfect, pairs.test) == pytest.approx(100)
    same = mean_average_precision(lambda x: torch.ones(len(x), 10), pairs.test)
    assert same == pytest.approx(100 * pairs.test.y_N.mean())


def test_each_kind_of_task_has_its_metric(digits: Dataset, pairs: Dataset) -> None:
    one, many = metric(digits.task), metric(pairs.task)
    assert (one.key, one.name, many.key, many.name) == ("acc", "accuracy", "map", "mAP")
    assert one.measure(of_pixels, digits.test) == accuracy(of_pixels, digits.test)
    assert many.measure(of_pixels, pairs.test, batch_size=50) == mean_average_precision(of_pixels, pairs.test)


def test_balanced_accuracy_by_hand() -> None:
    # Class 0: 3 of 4 right, class 2: 1 of 2; class 1 has no image and does not count.
    answer_N, y_N = np.array([0, 0, 0, 1, 2, 0]), np.array([0, 0, 0, 0, 2, 2])
    assert balanced(answer_N, y_N) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)


def test_uneven_classes_are_judged_by_balanced_accuracy_with_accuracy_beside_it(digits: Dataset) -> None:
    uneven = replace(digits.task, classes=2, prevalence=(0.95, 0.05))
    assert metric(uneven).key == "balanced_acc"
    assert metric(digits.task).key == "acc"
    logits_NK, y_N = np.tile([1.0, 0.0], (20, 1)), np.array([0] * 19 + [1])
    assert scores(logits_NK, y_N, uneven) == {"balanced_acc": 50, "acc": 95}
    assert list(scores(logits_NK, y_N, replace(uneven, prevalence=(0.5, 0.5)))) == ["acc"]
    split = digits.test.take(np.flatnonzero(digits.test.y_N < 2))

    def zero(x_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(x_BCHW), 1)

    assert metric(uneven).measure(zero, split) == 50
