from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, log_loss, matthews_corrcoef

from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.answers import answers
from archsearch.data.metrics import (
    ACCURACY,
    BALANCED,
    MACRO_F1,
    MAP,
    MCC,
    METRICS,
    NLL,
    Metric,
    accuracy,
    average_precisions,
    macro,
    measure,
    measure_all,
    scores,
)
from archsearch.domains.text.task import TextTask

# N images, B batch, M rows, K classes or labels


def of_pixels(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Ten scores an image: its first ten pixels."""
    return x_BCHW.flatten(1)[:, 20:30]


def worth(metric: Metric, answers_M: list[int], y_M: list[int], classes: int = 3) -> float:
    """Of answers by their class alone."""
    return scores((metric,), np.eye(classes)[answers_M], np.array(y_M))[metric.key]


# What is right, by hand. Labels: four of class 0, none of 1, two of 2; answers: five of 0 (of which three and one are
# of the labels 0 and 2), one of 1, one of 2.
ANSWERS, LABELS = [0, 0, 0, 1, 2, 0], [0, 0, 0, 0, 2, 2]


def test_accuracy_by_hand() -> None:
    assert worth(ACCURACY, ANSWERS, LABELS) == 100 * (4 / 6)


def test_balanced_accuracy_by_hand() -> None:
    # Class 0: 3 of 4 right, class 2: 1 of 2; class 1 has no image and does not count.
    assert worth(BALANCED, ANSWERS, LABELS) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)


def test_macro_f1_by_hand() -> None:
    # 2·3/(4+4), 2·0/(0+1), 2·1/(2+1); a class that nothing is or is taken for does not count.
    assert worth(MACRO_F1, ANSWERS, LABELS) == pytest.approx(100 * (3 / 4 + 0 + 2 / 3) / 3)
    assert worth(MACRO_F1, ANSWERS, LABELS, classes=9) == pytest.approx(100 * (3 / 4 + 0 + 2 / 3) / 3)


def test_matthews_correlation_by_hand() -> None:
    # Two classes: (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)) of TP 2, TN 3, FP 1, FN 2.
    assert worth(MCC, [1, 1, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0, 0], 2) == pytest.approx(4 / 240**0.5)
    # Three: (4·6 − (4·4 + 0·1 + 2·1)) / √((36 − 18)(36 − 20)).
    assert worth(MCC, ANSWERS, LABELS) == pytest.approx(6 / 288**0.5)


@pytest.mark.parametrize(
    ("answers_M", "y_M", "expected"),
    [
        ([0, 1, 2, 1], [0, 1, 2, 1], 1.0),
        ([1, 0], [0, 1], -1.0),
        ([0, 0, 0], [0, 1, 2], 0.0),
        ([0, 1, 2], [1, 1, 1], 0.0),
    ],
)
def test_the_ends_of_a_correlation(answers_M: list[int], y_M: list[int], expected: float) -> None:
    assert worth(MCC, answers_M, y_M) == expected


def test_negative_log_likelihood_by_hand() -> None:
    # The label's share is a quarter, then a half; no exponential of a thousand overflows.
    logits_MK = np.log([[0.25, 0.75], [0.5, 0.5]]) + 1000
    assert scores((NLL,), logits_MK, np.array([0, 1]))["nll"] == pytest.approx((np.log(4) + np.log(2)) / 2)


@pytest.mark.parametrize("classes", [2, 3, 17])
def test_values_are_those_of_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    y_N = np.minimum(rng.integers(0, classes, 400), rng.integers(0, classes, 400))  # uneven
    logits_NK = rng.normal(size=(400, classes)).astype(np.float32) + np.eye(classes, dtype=np.float32)[y_N]
    found, answer_N = scores((ACCURACY, BALANCED, MACRO_F1, MCC, NLL), logits_NK, y_N), logits_NK.argmax(1)
    share_NK = np.exp(logits_NK.astype(np.float64))
    share_NK /= share_NK.sum(1, keepdims=True)
    assert found == pytest.approx(
        {
            "acc": 100 * (answer_N == y_N).mean(),
            "balanced_acc": 100 * balanced_accuracy_score(y_N, answer_N),
            "macro_f1": 100 * f1_score(y_N, answer_N, average="macro"),
            "mcc": matthews_corrcoef(y_N, answer_N),
            "nll": log_loss(y_N, share_NK, labels=range(classes)),
        },
        rel=1e-9,
    )


# Meters.


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.key)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_rows_may_come_in_any_number(metric: Metric, kind: Any) -> None:
    rng = np.random.default_rng(0)
    answers_MK = rng.normal(size=(50, 4)).astype(np.float32)
    y_M = rng.integers(0, 2, (50, 4)).astype(np.uint8) if metric is MAP else rng.integers(0, 4, 50)
    meter = metric.meter()
    for rows in (slice(0, 1), slice(1, 1), slice(1, 30), slice(30, 50)):
        meter.update(kind(answers_MK[rows]), kind(y_M[rows]))
    value = meter.value()
    assert value == pytest.approx(scores((metric,), answers_MK, y_M)[metric.key])
    assert metric.meter() is not meter
    assert metric.is_better(value, than=metric.worst)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.key)
def test_nothing_is_worth_nothing(metric: Metric) -> None:
    with pytest.raises(ValueError, match="no answers"):
        metric.meter().value()


def test_a_meter_of_classes_keeps_counts_and_no_rows() -> None:
    meter: Any = MCC.meter()
    for _ in range(3):
        meter.update(np.eye(5)[[0] * 1000], np.zeros(1000, np.int64))
    assert meter.counts_3K.tolist() == [[3000, 0, 0, 0, 0]] * 3


def test_half_precision_of_the_brains_is_read() -> None:
    answers_MK = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.bfloat16)
    found = {metric.key: metric.meter() for metric in (ACCURACY, NLL)}
    for meter in found.values():
        meter.update(answers_MK, torch.tensor([0, 1]))
    assert found["acc"].value() == 100
    assert found["nll"].value() == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2)


def test_a_split_is_read_once_for_all_metrics(digits: Dataset) -> None:
    asked = 0

    def count(x_BCHW: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(x_BCHW)
        return of_pixels(x_BCHW)

    several = (ACCURACY, BALANCED, MACRO_F1, MCC, NLL)
    found = measure_all(several, count, digits.test, 50)
    assert asked == len(digits.test) + 1, "the first image is asked about once more, to see what one takes"
    logits_NK = answers({"it": of_pixels}, digits.test)["it"]
    assert found == pytest.approx(scores(several, logits_NK, digits.test.y_N))
    assert accuracy(of_pixels, digits.test, 7) == found["acc"] == measure(ACCURACY, of_pixels, digits.test)


def test_several_networks_are_asked_in_one_pass(digits: Dataset) -> None:
    told: list[tuple[int, int]] = []
    found = answers(
        {"one": of_pixels, "other": lambda x: -of_pixels(x)}, digits.test, 100, report=lambda *at: told.append(at)
    )
    np.testing.assert_array_equal(found["one"], -found["other"])
    assert found["one"].shape == (len(digits.test), 10)
    assert told[-1] == (len(digits.test), len(digits.test))
    assert len(told) == -(-len(digits.test) // 100)


# Directions.


def test_which_of_two_values_is_better_is_the_metrics_to_say() -> None:
    assert ACCURACY.is_better(2.0, than=1.0)
    assert NLL.is_better(1.0, than=2.0)
    assert not ACCURACY.is_better(1.0, than=1.0)
    assert not NLL.is_better(1.0, than=1.0)
    assert (ACCURACY.gain(5.0, over=3.0), NLL.gain(5.0, over=3.0)) == (2.0, -2.0)
    values = {"a": 2.0, "b": 1.0, "c": 1.0, "d": 2.0}
    assert (ACCURACY.best(values), NLL.best(values)) == ("a", "b"), "of equals the first"


@pytest.mark.parametrize("metric", [MCC, NLL])
def test_what_is_no_number_is_worst(metric: Metric) -> None:
    assert metric.best({"a": float("nan"), "b": -0.5, "c": float("nan")}) == "b"
    assert not metric.is_better(float("nan"), than=0.5)
    assert metric.is_better(0.5, than=float("nan"))


def test_only_shares_have_intervals_of_shares() -> None:
    assert [key for key, metric in METRICS.items() if not metric.is_share] == ["mcc", "nll"]


# Tasks.


def test_each_kind_of_task_has_its_metrics(digits: Dataset, pairs: Dataset) -> None:
    one, many = domains.judge(digits.task), domains.judge(pairs.task)
    assert (one.key, one.name, many.key, many.name) == ("acc", "accuracy", "map", "mAP")
    assert one.describe() == {"key": "acc", "name": "accuracy", "unit": "%", "better": "higher"}
    text = TextTask(2, 32, 100, 0, False)
    uneven = replace(text, prevalence=(0.9, 0.1))
    assert [metric.key for metric in domains.metrics(text)] == ["acc", "macro_f1", "mcc"]
    assert [metric.key for metric in domains.metrics(uneven)] == ["balanced_acc", "acc", "macro_f1", "mcc"]
    assert [metric.key for metric in domains.metrics(replace(text, kind="multilabel"))] == ["map"]


def test_uneven_classes_are_judged_by_balanced_accuracy_with_accuracy_beside_it(digits: Dataset) -> None:
    uneven = replace(digits.task, classes=2, prevalence=(0.95, 0.05))
    assert domains.judge(uneven) is BALANCED
    logits_NK, y_N = np.tile([1.0, 0.0], (20, 1)), np.array([0] * 19 + [1])
    assert scores(domains.metrics(uneven), logits_NK, y_N) == {"balanced_acc": 50, "acc": 95}
    assert list(domains.metrics(replace(uneven, prevalence=(0.5, 0.5)))) == [ACCURACY]
    split = digits.test.take(np.flatnonzero(digits.test.y_N < 2))
    assert measure(BALANCED, lambda x: torch.tensor([[1.0, 0.0]]).repeat(len(x), 1), split) == 50


def test_chance_is_what_a_guess_reaches(digits: Dataset, pairs: Dataset) -> None:
    """Of each metric of a judge's, as the task itself has it; and by a guesser that draws classes as they come."""
    for task in (digits.task, pairs.task, replace(digits.task, classes=2, prevalence=(0.95, 0.05))):
        assert domains.judge(task).chance(task) == pytest.approx(task.chance)
    shares = (0.6, 0.3, 0.1)
    task, rng = replace(digits.task, classes=3, prevalence=shares), np.random.default_rng(0)
    y_N, drawn_N = rng.choice(3, 40_000, p=shares), rng.choice(3, 40_000, p=shares)
    found = scores((BALANCED, MACRO_F1, MCC), np.eye(3)[drawn_N], y_N)
    assert [found[one.key] for one in (BALANCED, MACRO_F1)] == pytest.approx([100 / 3] * 2, abs=1)
    assert [BALANCED.chance(task), MACRO_F1.chance(task)] == pytest.approx([100 / 3] * 2)
    assert found["mcc"] == pytest.approx(MCC.chance(task), abs=0.02)
    prior = scores((ACCURACY, NLL), np.tile(np.log(shares), (40_000, 1)), y_N)
    assert prior["acc"] == pytest.approx(ACCURACY.chance(task), abs=1)
    assert prior["nll"] == pytest.approx(NLL.chance(task), abs=0.01)


# Rankings.


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
    scores_NK = answers({"it": of_pixels}, pairs.selection, 100)["it"]
    expected = 100 * np.mean([average_precision_score(pairs.selection.y_N[:, k], scores_NK[:, k]) for k in range(10)])
    for batch_size in (1, 7, 256):
        assert measure(MAP, of_pixels, pairs.selection, batch_size) == pytest.approx(expected)
    assert pairs.task.chance / 2 < expected < 3 * pairs.task.chance


def test_a_perfect_ranking_is_100_and_knowing_nothing_the_prevalence(pairs: Dataset) -> None:
    known = {x_CHW.numpy().tobytes(): y_K for x_CHW, y_K in zip(pairs.test.images(), pairs.test.labels(), strict=True)}

    def perfect(x_BCHW: torch.Tensor) -> torch.Tensor:
        images = (255 * x_BCHW).round().to(torch.uint8)
        return torch.stack([3 * known[x_CHW.numpy().tobytes()] - 7 for x_CHW in images])

    assert measure(MAP, perfect, pairs.test) == pytest.approx(100)
    same = measure(MAP, lambda x: torch.ones(len(x), 10), pairs.test)
    assert same == pytest.approx(100 * pairs.test.y_N.mean())
