"""A student that knows nothing is told from one that does, whatever is counted, and why it may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archsearch.data import Dataset
from archsearch.domains.images.task import ImageSplit
from archsearch.doubt import Training, causes, guessing, judge, linear_model, worth
from archsearch.evaluate import evaluate, evaluate_labels

ENOUGH = Training(
    steps=4000, epochs=100, batch_size=32, lr=0.025, usual_lr=0.025, retries=0, space="resnet_cifar", learns_from=0
)  # fmt: skip
Rng = np.random.Generator


def knowing(y_N: npt.NDArray[Any], share: float, rng: Rng, classes: int = 10) -> npt.NDArray[np.float64]:
    """Logits that are right on a share of the images, and on the rest as often as guessing is."""
    told_N = np.where(rng.random(len(y_N)) < share, y_N, rng.integers(0, classes, len(y_N)))
    return 5 * np.eye(classes)[told_N]


def rows(test: ImageSplit, **shares: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: evaluate(knowing(test.y_N, share, rng), test.y_N) for name, share in shares.items()}


def test_a_student_at_chance_is_degraded_and_says_beside_what(digits: Dataset) -> None:
    found = judge(rows(digits.test, student=0.03, teacher=0.97), digits, replace(ENOUGH, steps=600))
    assert found.degraded
    told = found.describe()
    assert "not clearly above guessing" in told
    assert "below a linear model of the pixels" in told
    assert "far below its teacher" in told
    assert "too few steps: 600" in told
    assert found.score.low < 12 < found.score.high < 20


def test_a_student_that_knows_is_one(digits: Dataset) -> None:
    found = judge(rows(digits.test, student=0.97, teacher=0.98, no_teacher=0.97), digits, ENOUGH)
    assert (found.degraded, found.causes) == (False, ())
    assert found.kept == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"student": 0.5, "teacher": 0.98}, "far below its teacher"),
        ({"student": 0.5, "teacher": 0.55, "no_teacher": 0.98}, "far below the same network without a teacher"),
        ({"student": 0.8, "teacher": 0.85}, "below a linear model of the pixels"),
    ],
)
def test_a_student_that_knows_far_less_than_it_could_is_degraded(
    digits: Dataset, shares: dict[str, float], told: str
) -> None:
    found = judge(rows(digits.test, **shares), digits, ENOUGH)
    assert told in found.describe()
    assert "not clearly above guessing" not in found.describe()


def test_a_linear_model_knows_what_pixels_tell(digits: Dataset) -> None:
    assert 88 < linear_model(digits) < 97
    shuffled = np.random.default_rng(0).permutation(digits.train.y_N)
    assert linear_model(replace(digits, train=ImageSplit(digits.train.x_NHWC, shuffled))) < 25


def uneven(digits: Dataset) -> Dataset:
    """Zeros and the rest, 19 to 1: nine in ten of the zeros are looked at elsewhere."""

    def split(of: ImageSplit) -> ImageSplit:
        rare = np.flatnonzero(of.y_N == 0)[: len(of) // 20]
        rows = np.sort(np.concatenate([rare, np.flatnonzero(of.y_N != 0)]))
        return ImageSplit(of.x_NHWC[rows], (of.y_N[rows] == 0).astype(np.int64))

    task = replace(digits.task, classes=2, prevalence=(0.95, 0.05))
    return replace(
        digits, task=task, train=split(digits.train), selection=split(digits.selection), test=split(digits.test)
    )


def test_of_uneven_classes_the_largest_one_always_is_no_knowledge(digits: Dataset) -> None:
    data = uneven(digits)
    y_N = data.test.y_N
    assert guessing(data.test, data.task) == 50
    constant = evaluate(np.eye(2)[np.zeros_like(y_N)], y_N)
    assert constant.top1_acc.percent > 94
    assert "not clearly above guessing" in judge({"student": constant}, data, ENOUGH).describe()
    perfect = evaluate(np.eye(2)[y_N], y_N)
    assert worth(perfect, data.test, data.task).percent == 100
    assert not judge({"student": perfect, "teacher": perfect}, data, ENOUGH).degraded


def test_many_labels_are_judged_by_how_they_are_ranked(digits: Dataset) -> None:
    """Which of even, below five, and three an image is."""

    def labels(of: ImageSplit) -> ImageSplit:
        y_NK = np.stack([of.y_N % 2 == 0, of.y_N < 5, of.y_N == 3], axis=1)
        return ImageSplit(of.x_NHWC, y_NK.astype(np.uint8))

    task = replace(digits.task, classes=3, kind="multilabel", prevalence=(0.5, 0.5, 0.1))
    data = replace(
        digits, task=task, train=labels(digits.train), selection=labels(digits.selection), test=labels(digits.test)
    )
    y_NK = data.test.y_N
    knows = evaluate_labels(y_NK + np.random.default_rng(0).normal(0, 0.2, y_NK.shape), y_NK)
    guesses = evaluate_labels(np.random.default_rng(1).normal(0, 1, y_NK.shape), y_NK)
    assert not judge({"student": knows, "teacher": knows}, data, ENOUGH).degraded
    found = judge({"student": guesses, "teacher": knows}, data, ENOUGH)
    assert found.judged_by == "mAP"
    assert "not clearly above guessing" in found.describe()


def test_causes_come_in_their_order_as_far_as_they_hold(digits: Dataset) -> None:
    y_N = digits.test.y_N
    bad = evaluate(np.zeros((len(y_N), 10)), y_N)
    all_of_them = replace(ENOUGH, steps=40, retries=2, lr=0.002, space="vit", learns_from=1_000_000)
    found = causes(all_of_them, bad, 150, 10)
    starts = ["too few steps", "too high a rate", "the wrong space", "too few examples"]
    assert [cause.startswith(start) for cause, start in zip(found, starts, strict=True)] == [True] * 4
    assert "too high a rate: 1, where 0.025 is usual" in causes(replace(ENOUGH, lr=1.0), bad, 1169, 10)[0]
    (left,) = causes(ENOUGH, bad, 1169, 10)
    assert "raise the budget" in left


def test_answers_in_another_order_of_the_classes_are_seen(digits: Dataset) -> None:
    y_N = digits.test.y_N
    turned = evaluate(knowing((y_N + 1) % 10, 0.95, np.random.default_rng(0)), y_N)
    (cause,) = causes(ENOUGH, turned, 1169, 10)
    assert cause.startswith("classes in another order")


def test_without_labels_a_student_is_held_against_its_teachers_answers(digits: Dataset) -> None:
    task: Any = digits.task
    alone = replace(digits, task=replace(task, truth="teacher"))
    good = judge(rows(digits.test, student=0.98), alone, ENOUGH)
    assert (good.degraded, good.judged_by) == (False, "agreement with the teacher")
    assert good.kept == pytest.approx((good.score.percent - good.guessing) / (100 - good.guessing))
    poor = judge(rows(digits.test, student=0.4), alone, ENOUGH)
    assert "far from its teacher, whose answers are all that is right here" in poor.describe()
    assert "accuracy" not in poor.describe()
    turned = {"student": evaluate(np.roll(5 * np.eye(10)[digits.test.y_N], 1, axis=1), digits.test.y_N)}
    assert not any("in another order" in cause for cause in judge(turned, alone, ENOUGH).causes)
    assert any("in another order" in cause for cause in judge(turned, digits, ENOUGH).causes)
