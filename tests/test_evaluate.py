"""What answers are worth: figures worked by hand, one pass over a split, and pictures that show what they say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from archsearch import evaluate
from archsearch.data import Dataset
from archsearch.domains.images.task import ImageSplit, ImageTask
from archsearch.evaluate.metrics import calibration_error, confusion, log_softmax, per_class, reliability

# N images, B batch, C channels, H W space, K classes

BLUE, RED, WHITE = (31, 90, 160), (190, 55, 40), (255, 255, 255)


def logits_of(p_NK: list[list[float]]) -> np.ndarray:
    return np.log(np.array(p_NK))


@pytest.fixture
def some() -> tuple[np.ndarray, np.ndarray]:
    """Answers to 200 images of 12 classes, right on most of them."""
    rng = np.random.default_rng(0)
    y_N = rng.integers(0, 12, 200)
    logits_NK = rng.normal(size=(200, 12))
    logits_NK[np.arange(200), y_N] += 2.0
    return logits_NK.astype(np.float32), y_N


# Metrics.


def test_wilson_is_the_published_interval() -> None:
    """8 of 10, as in the textbooks: 49.0 % to 94.3 %; and the closed forms at both ends."""
    share = evaluate.wilson(8, 10)
    assert share.percent == 80
    assert (share.low, share.high) == (pytest.approx(49.0162, abs=1e-3), pytest.approx(94.3318, abs=1e-3))
    z2 = 1.959963984540054**2
    assert evaluate.wilson(0, 20) == evaluate.Share(0, 0, pytest.approx(100 * z2 / (20 + z2)))
    assert evaluate.wilson(20, 20) == evaluate.Share(100, pytest.approx(100 * 20 / (20 + z2)), 100)


@pytest.mark.parametrize(("right", "images"), [(0, 1), (1, 1), (1, 3), (359, 359), (358, 359), (7_000, 10_000)])
def test_an_interval_holds_its_share_and_stays_a_share(right: int, images: int) -> None:
    share = evaluate.wilson(right, images)
    assert 0 <= share.low <= share.percent <= share.high <= 100


def test_calibration_error_by_hand() -> None:
    """Two images at 0.9 of which one is right, one at 0.6 that is right: 2/3·|50 − 90| + 1/3·|100 − 60| = 40."""
    bins = reliability(np.array([0.9, 0.9, 0.6]), np.array([True, False, True]), bins=5)
    assert [bin.images for bin in bins] == [0, 0, 1, 0, 2]
    assert bins[4] == evaluate.Bin(0.8, 1.0, 2, pytest.approx(90), 50)
    assert calibration_error(bins) == pytest.approx(40)


def test_bins_hold_their_upper_end_and_every_confidence_has_one() -> None:
    at = np.array([0.0, 1 / 15, np.nextafter(1 / 15, 1), 14 / 15, 1.0])
    bins = reliability(at, np.ones(5, dtype=bool))
    assert [bin.images for bin in bins] == [2, 1, *[0] * 11, 1, 1]


def test_confidence_that_keeps_its_promise_has_no_error() -> None:
    confidence_N = np.full(1000, 0.75)
    right_N = np.arange(1000) % 4 > 0
    assert calibration_error(reliability(confidence_N, right_N)) == pytest.approx(0, abs=1e-9)


def test_one_evaluation_by_hand() -> None:
    found = evaluate.evaluate(
        logits_of([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]),
        np.array([0, 1, 1, 2]),
        ["ant", "bee", "cow"],
    )
    assert (found.images, found.top1_acc.percent, found.top5_acc) == (4, 75, None)
    assert found.nll == pytest.approx(-(math.log(0.7) + math.log(0.6) + math.log(0.4) + math.log(0.6)) / 4)
    assert found.confusion_KK.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert found.per_class[0] == evaluate.ClassRow("ant", 1, 100, None, 0)
    assert found.per_class[1] == evaluate.ClassRow("bee", 2, 50, "ant", 1)
    # All in bins of their own but the two at 0.6: |100 − 70|/4 + |100 − 60|·2/4 + |0 − 50|/4.
    assert found.ece == pytest.approx(40)


def test_figures_are_those_scikit_learn_finds(some: tuple[np.ndarray, np.ndarray]) -> None:
    logits_NK, y_N = some
    found = evaluate.evaluate(logits_NK, y_N)
    p_NK = np.exp(log_softmax(logits_NK))
    classes = range(12)
    assert found.nll == pytest.approx(log_loss(y_N, p_NK, labels=classes))
    assert found.top5_acc is not None
    assert found.top5_acc.percent == pytest.approx(100 * top_k_accuracy_score(y_N, p_NK, k=5, labels=classes))
    assert (found.confusion_KK == confusion_matrix(y_N, p_NK.argmax(1), labels=classes)).all()
    assert found.top1_acc.percent == pytest.approx(100 * np.trace(found.confusion_KK) / 200)
    assert sum(bin.images for bin in found.bins) == 200
    assert [row.name for row in found.per_class] == [str(k) for k in classes]


def test_a_class_without_images_has_no_accuracy() -> None:
    rows = per_class(np.array([[0, 0, 3], [0, 1, 1], [2, 1, 2], [2, 2, 2]]), ["a", "b", "c"])
    assert rows[1] == evaluate.ClassRow("b", 0, None, None, 0)
    assert rows[2].confused_with == "b"


def test_large_logits_overflow_nothing() -> None:
    found = evaluate.evaluate(np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32), np.array([0, 0]))
    assert found.nll == pytest.approx(1e4)
    assert found.top1_acc.percent == 50


def test_likeness_by_hand_and_to_oneself() -> None:
    teacher, student = logits_of([[0.5, 0.5], [0.9, 0.1]]), logits_of([[0.25, 0.75], [0.6, 0.4]])
    found = evaluate.likeness(teacher, student)
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    second = 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)
    assert found.kl == pytest.approx((first + second) / 2)
    assert found.agreement == 50  # of the first, the teacher's answer is class 0: a tie goes to the lower number
    assert evaluate.likeness(teacher, teacher) == evaluate.Likeness(100, 0)
    # What is added to all logits of an image changes no answer.
    assert evaluate.likeness(teacher, student + 7).kl == pytest.approx(found.kl)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_answers_that_are_no_numbers_are_like_no_teacher_s(kind) -> None:
    teacher = logits_of([[0.5, 0.5], [0.9, 0.1]])
    assert math.isnan(evaluate.likeness(teacher, np.full_like(teacher, np.nan), kind).kl)


def test_likeness_of_labels_that_are_questions_of_their_own() -> None:
    teacher, student = np.array([[0.0, 2.0]]), np.array([[-1.0, 3.0]])
    found = evaluate.likeness(teacher, student, "multilabel")

    def bernoulli(a: float, b: float) -> float:
        p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    assert found.kl == pytest.approx(bernoulli(0, -1) + bernoulli(2, 3))
    assert found.agreement == 100
    assert evaluate.likeness(teacher, -student, "multilabel").agreement == 0


def test_many_labels_are_judged_by_average_precision() -> None:
    """Label 0 is ranked 1 and 3 of its two: (1 + 2/3)/2; label 1 first; no image has label 2."""
    logits_NK = np.array([[3.0, -2.0, 0.0], [2.0, 4.0, 0.0], [1.0, 0.0, 0.0]])
    y_NK = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=np.uint8)
    found = evaluate.evaluate_labels(logits_NK, y_NK, ["sun", "sea", "snow"])
    assert [row.average_precision for row in found.per_label] == [pytest.approx(100 * 5 / 6), 100, None]
    assert [row.images for row in found.per_label] == [2, 1, 0]
    assert found.mean_ap == pytest.approx(100 * (5 / 6 + 1) / 2)
    p_NK = 1 / (1 + np.exp(-logits_NK))
    assert found.nll == pytest.approx(-np.log(np.where(y_NK == 1, p_NK, 1 - p_NK)).sum(1).mean())
    assert sum(bin.images for bin in found.bins) == 9


# Networks side by side.


def test_all_networks_answer_in_one_pass_as_each_does_alone(teacher, few_digits: Dataset) -> None:
    seen: list[int] = []

    def counting(x_BCHW: torch.Tensor) -> torch.Tensor:
        seen.append(len(x_BCHW))
        return teacher.logits(x_BCHW)

    reports: list[tuple[int, int]] = []
    found = evaluate.answers(
        {"student": counting, "teacher": lambda x: -teacher.logits(x)},
        few_digits.test,
        batch_size=50,
        report=lambda done, of: reports.append((done, of)),
    )
    assert seen == [1, 50, 50, 28]  # the first one alone, to see what an image takes
    assert reports == [(50, 128), (100, 128), (128, 128)]
    with torch.inference_mode():
        alone_NK = teacher.logits(few_digits.test.images().float() / 255).numpy()
    np.testing.assert_allclose(found["student"], alone_NK, atol=1e-5)
    np.testing.assert_allclose(found["teacher"], -alone_NK, atol=1e-5)


def test_rows_are_held_against_the_teacher_where_there_is_one(some, gray_task: ImageTask) -> None:
    logits_NK, y_N = some
    split = ImageSplit(np.zeros((200, 1, 1, 1), np.uint8), y_N)
    task = replace(gray_task, classes=12, class_names=())
    rows = evaluate.compare({"student": logits_NK, "no_teacher": -logits_NK, "teacher": logits_NK}, split, task)
    assert list(rows) == ["student", "no_teacher", "teacher"]
    assert rows["student"].to_teacher == evaluate.Likeness(100, 0)
    assert rows["no_teacher"].to_teacher == evaluate.likeness(logits_NK, -logits_NK)
    assert rows["teacher"].to_teacher is None
    assert evaluate.compare({"student": logits_NK}, split, task)["student"].to_teacher is None
    assert evaluate.score(logits_NK, split, task) == rows["student"].evaluation.top1_acc.percent


def test_without_labels_a_row_tells_agreement_and_nothing_that_only_labels_tell(
    some: tuple[np.ndarray, np.ndarray], gray_task: ImageTask, tmp_path: Path
) -> None:
    logits_NK, _ = some
    teacher_NK = np.roll(logits_NK, 1, axis=0)
    y_N = teacher_NK.argmax(1)
    task = replace(gray_task, classes=logits_NK.shape[1], class_names=(), truth="teacher")
    split = ImageSplit(np.zeros((len(y_N), 8, 8, 1), np.uint8), y_N)
    rows = evaluate.compare({"student": logits_NK, "teacher": teacher_NK}, split, task)
    assert list(rows) == ["student"]
    agreed = 100 * float((logits_NK.argmax(1) == y_N).mean())
    assert evaluate.figures(rows["student"]) == {"agreement": pytest.approx(agreed)}
    told = evaluate.summary(rows["student"])
    assert told.keys() == {"images", "agreement", "agreement_low", "agreement_high", "kl_to_teacher"}
    assert told["kl_to_teacher"] == evaluate.likeness(teacher_NK, logits_NK).kl
    (tmp_path / evaluate.CALIBRATION).write_bytes(b"an earlier one")
    paths = evaluate.write_evaluation(tmp_path, rows, task, data_sha256="0" * 64)
    assert [path.name for path in paths] == [evaluate.EVALUATION, evaluate.CONFUSION]
    assert not (tmp_path / evaluate.CALIBRATION).exists()
    found = json.loads(paths[0].read_text())
    assert found["judged_by"]["name"] == "agreement with the teacher"
    assert found["held_against"].endswith("no label was seen")
    row = found["networks"]["student"]
    assert not {"bins", "nll", "ece", "top1_acc"} & row.keys()
    assert all(each.keys() == {"name", "images", "agreement", "confused_with", "confused"} for each in row["per_class"])


def test_a_multi_label_task_has_rows_and_a_score_of_its_own(gray_task: ImageTask, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y_NK = (rng.random((60, 4)) < 0.3).astype(np.uint8)
    logits_NK = rng.normal(size=(60, 4)) + 2 * y_NK
    split = ImageSplit(np.zeros((60, 1, 1, 1), np.uint8), y_NK)
    task = replace(gray_task, classes=4, class_names=tuple("abcd"), kind="multilabel")
    rows = evaluate.compare({"student": logits_NK, "teacher": logits_NK}, split, task)
    assert evaluate.score(logits_NK, split, task) == rows["student"].evaluation.mean_ap > 50
    paths = evaluate.write_evaluation(tmp_path, rows, task, data_sha256="0" * 64)
    assert {path.name for path in paths} == {"evaluation.json", "calibration.png"}
    student = json.loads(paths[0].read_text())["networks"]["student"]
    assert student["map"] == rows["student"].evaluation.mean_ap
    assert [row["name"] for row in student["per_label"]] == list("abcd")
    assert "confusion" not in student


def test_an_evaluation_is_written_whole_and_readable(some, gray_task: ImageTask, tmp_path: Path) -> None:
    logits_NK, y_N = some
    split = ImageSplit(np.zeros((200, 1, 1, 1), np.uint8), y_N)
    task = replace(gray_task, classes=12, class_names=tuple("abcdefghijkl"))
    rows = evaluate.compare({"student": logits_NK, "teacher": logits_NK[::-1]}, split, task)
    paths = evaluate.write_evaluation(tmp_path / "new", rows, task, data_sha256="f" * 64)
    assert {path.name for path in paths} == {"evaluation.json", "calibration.png", "confusion.png"}
    text = paths[0].read_text()
    assert len(text.splitlines()) < 10, "a line a network"
    found = json.loads(text)
    assert (found["split"], found["data_sha256"]) == ("test", "f" * 64)
    assert list(found["networks"]) == ["student", "teacher"]
    student = found["networks"]["student"]
    assert student.items() >= evaluate.summary(rows["student"]).items()
    assert student["confusion"] == rows["student"].evaluation.confusion_KK.tolist()
    assert [row["name"] for row in student["per_class"]] == list("abcdefghijkl")
    assert len(student["bins"]) == 15


def test_very_many_classes_are_told_by_the_cells_that_hold_images(gray_task: ImageTask, tmp_path: Path) -> None:
    classes = 1001
    split = ImageSplit(np.zeros((3, 1, 1, 1), np.uint8), np.array([0, 1000, 1000]))
    logits_NK = np.zeros((3, classes), np.float32)
    logits_NK[[0, 1, 2], [0, 1000, 5]] = 9
    (tmp_path / "confusion.png").write_bytes(b"of an earlier evaluation")
    rows = evaluate.compare({"student": logits_NK}, split, replace(gray_task, classes=classes, class_names=()))
    task = replace(gray_task, classes=classes, class_names=())
    paths = evaluate.write_evaluation(tmp_path, rows, task, data_sha256="f" * 64)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "confusion.png").exists()
    student = json.loads(paths[0].read_text())["networks"]["student"]
    assert "confusion" not in student
    assert student[evaluate.CELLS] == [[1000, 5, 1]]
    assert [(row["name"], row["accuracy"]) for row in student["per_class"]] == [("1000", 50.0), ("0", 100.0)]
    assert (student["classes"], student["per_class_left_out"]) == (1001, 999)


def test_a_thousand_classes_stay_below_a_megabyte(gray_task: ImageTask, tmp_path: Path) -> None:
    """With three networks, long names and as many different mistakes as there can be, it was many megabytes."""
    draw, classes = np.random.default_rng(0), 1000
    split = ImageSplit(np.zeros((2000, 1, 1, 1), np.uint8), draw.integers(0, classes, 2000))
    names = tuple(f"{number:04}: the name of a class as ImageNet has them, with commas" for number in range(classes))
    task = replace(gray_task, classes=classes, class_names=names)
    networks = ("student", "teacher", "no_teacher")
    logits = {name: draw.standard_normal((2000, classes), np.float32) for name in networks}
    rows = evaluate.compare(logits, split, task)
    (path, *_) = evaluate.write_evaluation(tmp_path, rows, task, data_sha256="f" * 64)
    assert path.stat().st_size < 1_000_000
    student = json.loads(path.read_text())["networks"]["student"]
    assert [len(student[key]) for key in ("per_class", evaluate.CELLS)] == [1000, 1000]
    images = [images for _, _, images in student[evaluate.CELLS]]
    assert images == sorted(images, reverse=True)
    assert all(len(str(row["accuracy"]).partition(".")[2]) <= 2 for row in student["per_class"])


def test_very_many_classes_take_little_memory() -> None:
    """A matrix of fifty thousand classes would be 20 GB."""
    answer_N, y_N = np.array([0, 49_999, 7]), np.array([0, 49_999, 9])
    assert confusion(answer_N, y_N, 50_000).tolist() == [[0, 0, 1], [9, 7, 1], [49_999, 49_999, 1]]


def test_uneven_classes_have_a_balanced_accuracy_beside(gray_task: ImageTask) -> None:
    logits_NK, y_N = np.tile(np.float32([1, 0]), (20, 1)), np.array([0] * 19 + [1])
    split, task = (
        ImageSplit(np.zeros((20, 1, 1, 1), np.uint8), y_N),
        replace(gray_task, classes=2, class_names=("a", "b")),
    )
    row = evaluate.compare({"student": logits_NK}, split, task)["student"]
    assert (evaluate.summary(row)["top1_acc"], evaluate.summary(row)["balanced_acc"]) == (95, 50)
    even = evaluate.compare({"student": logits_NK[:2]}, split.take(np.array([0, 19])), task)["student"]
    assert evaluate.summary(even)["balanced_acc"] is None


def test_a_network_that_takes_much_memory_is_asked_about_a_few_images_at_a_time() -> None:
    seen: list[int] = []

    def large(x_BCHW: torch.Tensor) -> torch.Tensor:
        seen.append(len(x_BCHW))
        return x_BCHW.repeat(1, 2**20, 1, 1)[:, :2, 0, 0]  # 64 MiB an image

    found = evaluate.answers({"student": large}, ImageSplit(np.zeros((12, 4, 4, 1), np.uint8), np.zeros(12, np.int64)))
    assert max(seen) <= 8
    assert found["student"].shape == (12, 2)


# Pictures.


def drawn(classes: int, path: Path, names: list[str] | None = None) -> tuple[Image.Image, np.ndarray]:
    """A confusion matrix with one mistake: the last label is taken for the first class half of the time."""
    confusion_KK = 4 * np.eye(classes, dtype=np.int64)
    confusion_KK[-1, [0, -1]] = 2
    evaluate.draw_confusion(confusion_KK, names or [f"class {k}" for k in range(classes)], path)
    with Image.open(path) as image:
        return image.convert("RGB"), confusion_KK


def matrix_box(image: Image.Image) -> tuple[int, int, int]:
    """Left, top and side of the matrix: its frame ends a margin from the right and lower edges."""
    pixels = np.asarray(image)
    ink = (pixels == 30).all(2)
    bottom = image.height - 16
    columns = np.flatnonzero(ink[bottom])
    return (
        int(columns[0]) + 1,
        bottom - (image.width - 16 - int(columns[0]) - 1),
        image.width - 16 - int(columns[0]) - 1,
    )


@pytest.mark.parametrize("classes", [2, 12, 40, 100, 300])
def test_a_confusion_matrix_shows_right_answers_blue_and_wrong_ones_red(classes: int, tmp_path: Path) -> None:
    image, _ = drawn(classes, tmp_path / "confusion.png")
    left, top, side = matrix_box(image)
    cell = side / classes

    def colour(row: int, column: int) -> tuple[int, ...]:
        # Near a corner of the cell: its count is written in the middle.
        return image.getpixel((round(left + cell * column + cell * 0.2), round(top + cell * row + cell * 0.2)))

    assert colour(0, 0) == BLUE
    assert colour(0, classes - 1) == WHITE
    red = colour(classes - 1, 0)
    assert red[0] > red[2] > RED[2], "half of the row, so between white and red"
    assert colour(classes - 1, classes - 1)[2] > colour(classes - 1, classes - 1)[0]


def test_pictures_of_a_hundred_classes_are_large_enough_to_read_and_small_enough_to_send(tmp_path: Path) -> None:
    image, _ = drawn(100, tmp_path / "confusion.png", [f"a class called {k}" for k in range(100)])
    assert 1400 < image.width < 2000
    assert (tmp_path / "confusion.png").stat().st_size < 500_000


def test_names_a_font_cannot_write_become_numbers(tmp_path: Path) -> None:
    foreign, _ = drawn(3, tmp_path / "a.png", ["犬", "猫", "鳥"])
    numbers, _ = drawn(3, tmp_path / "b.png", ["0", "1", "2"])
    assert np.array_equal(np.asarray(foreign), np.asarray(numbers))


def test_a_reliability_diagram_shows_accuracy_in_blue_and_the_gap_in_red(tmp_path: Path) -> None:
    bins = reliability(np.full(10, 0.95), np.arange(10) < 4)
    evaluate.draw_calibration(bins, calibration_error(bins), tmp_path / "calibration.png")
    with Image.open(tmp_path / "calibration.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    blue, red = (pixels == BLUE).all(2), (pixels == RED).all(2)
    # 40 % of 360 pixels high; from there the red frame reaches up to 95 %.
    assert np.ptp(np.flatnonzero(blue.any(1))) == pytest.approx(144, abs=3)
    assert np.ptp(np.flatnonzero(red.any(1))) == pytest.approx(0.55 * 360, abs=3)
    assert np.flatnonzero(red.any(0)).min() > 64 + 0.9 * 360


def test_a_reliability_diagram_of_many_labels_counts_answers(tmp_path: Path) -> None:
    bins = reliability(np.full(10, 0.95), np.arange(10) < 4)
    for unit in ("images", "answers"):
        evaluate.draw_calibration(bins, calibration_error(bins), tmp_path / f"{unit}.png", unit=unit)
    evaluate.draw_calibration(bins, calibration_error(bins), tmp_path / "default.png")
    assert (tmp_path / "images.png").read_bytes() == (tmp_path / "default.png").read_bytes()
    assert (tmp_path / "images.png").read_bytes() != (tmp_path / "answers.png").read_bytes()
