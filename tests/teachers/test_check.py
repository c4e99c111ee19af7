from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archsearch.data import Dataset
from archsearch.data.metrics import MAP, measure
from archsearch.data.splits import complete
from archsearch.domains.images.assemble import assemble
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import ArchsearchError, TeacherError
from archsearch.request import UploadedTeacher
from archsearch.teachers import (
    ImageTeacher,
    build,
    check_teacher,
    load_teacher,
)

# B batch, C channels, H W space, K classes


def refused(source: Any, path: Path | None = None) -> ArchsearchError:
    with pytest.raises(ArchsearchError) as caught:
        load_teacher(source, path)
    return caught.value


def test_a_good_teachers_accuracy_is_measured(teacher: ImageTeacher, digits: Dataset) -> None:
    assert 80 < check_teacher(teacher, digits).measured <= 100


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"classes": 7}, "tells 10 classes apart, the data has 7"),
        ({"in_chans": 3}, "expects 1 channels, the data has 3"),
    ],
)
def test_a_teacher_for_other_data_is_refused(
    teacher: ImageTeacher, digits: Dataset, change: dict[str, int], detail: str
) -> None:
    other = dataclasses.replace(digits, task=dataclasses.replace(digits.task, **change))
    with pytest.raises(TeacherError, match=detail) as caught:
        check_teacher(teacher, other)
    assert caught.value.field == "teacher"


def test_a_teacher_that_only_guesses_is_refused(source: UploadedTeacher, digits: Dataset) -> None:
    torch.manual_seed(0)
    untrained = build(source.architecture, source.model_args | {"num_classes": 10, "in_chans": 1}).eval()
    guessing = ImageTeacher("untrained", untrained, 10, 1, (0.5,), (0.5,), None, "")
    with pytest.raises(TeacherError, match="guessing reaches"):
        check_teacher(guessing, digits)


def test_knowing_only_the_largest_class_is_guessing(teacher: ImageTeacher, digits: Dataset) -> None:
    """On 95 % zeros, answering zero always is right in 95 %, and no knowledge."""

    class Zero(torch.nn.Module):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[torch.zeros(len(x_BCHW), dtype=torch.int64)]

    y_N = digits.selection.y_N.copy()
    y_N[: int(0.95 * len(y_N))] = 0
    skewed = dataclasses.replace(digits, selection=ImageSplit(digits.selection.x_NHWC, y_N))
    with pytest.raises(TeacherError, match=r"is right on 9\d\.\d %"):
        check_teacher(dataclasses.replace(teacher, model=Zero()), skewed)


def ridge(dataset: Dataset) -> torch.nn.Module:
    """A linear classifier of pixels, as good as least squares makes it; logits in the order of the labels."""
    x_ND = dataset.train.images().flatten(1).float() / 255
    y_NK = dataset.train.labels() - dataset.train.labels().mean(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x_ND.shape[1], y_NK.shape[1]))
    weight_DK = torch.linalg.solve(x_ND.T @ x_ND + torch.eye(x_ND.shape[1]), x_ND.T @ y_NK)
    model[1].weight.data, model[1].bias.data = weight_DK.T, torch.zeros(y_NK.shape[1])
    return model.eval().requires_grad_(False)


def teacher_of(model: torch.nn.Module) -> ImageTeacher:
    return ImageTeacher("pairs", model, 10, 1, (0.0,), (1.0,), None, "")


def test_with_many_labels_a_good_teachers_map_is_measured(pairs: Dataset) -> None:
    teacher = teacher_of(ridge(pairs))
    found = check_teacher(teacher, pairs).measured
    assert found == measure(MAP, teacher.logits, pairs.selection)
    assert 85 < found < 100


def test_with_many_labels_a_weak_teacher_is_still_one(pairs: Dataset) -> None:
    """It learned from twenty images."""
    few = dataclasses.replace(pairs, train=pairs.train.take(slice(0, 20)))
    assert 40 < check_teacher(teacher_of(ridge(few)), pairs).measured < 70


@pytest.mark.parametrize("turn", [1, 5])
def test_with_many_labels_a_teacher_of_another_order_is_refused(pairs: Dataset, turn: int) -> None:
    model = ridge(pairs)
    model[1].weight.data = model[1].weight.data.roll(turn, 0)
    with pytest.raises(
        TeacherError, match=r"mAP of 1\d\.\d %; guessing reaches 19\.\d %.*order of the classes"
    ) as caught:
        check_teacher(teacher_of(model), pairs)
    assert caught.value.field == "teacher"


def test_with_many_labels_the_same_answer_to_everything_is_guessing(pairs: Dataset) -> None:
    """It ranks no image before another, however well it knows how often each label comes."""
    model = ridge(pairs)
    model[1].weight.data, model[1].bias.data = torch.zeros(10, 128), torch.tensor(pairs.task.prevalence).logit()
    with pytest.raises(TeacherError, match=r"mAP of 19\.0 %; guessing reaches 19\.0 %"):
        check_teacher(teacher_of(model), pairs)


def test_with_many_labels_untrained_networks_are_refused(pairs: Dataset) -> None:
    """They see brightness and strokes, and rank by those better or worse than chance, but not in the labels' order."""
    for seed in range(4):
        torch.manual_seed(seed)
        args = {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 12, 16]}
        with pytest.raises(TeacherError, match="guessing reaches"):
            check_teacher(teacher_of(build("cifar_resnet", args).eval()), pairs)


def test_with_labels_that_nearly_always_come_together_a_good_teacher_is_one(pairs: Dataset) -> None:
    """Read in the wrong order its answers are nearly as good, which says nothing against it."""

    def alike(split: ImageSplit) -> ImageSplit:
        small = split.y_N[:, :5].any(axis=1)
        return ImageSplit(split.x_NHWC, np.stack([small, small | split.y_N[:, 5] > 0], axis=1).astype(np.uint8))

    few = alike(pairs.selection.take(slice(0, 60)))
    dataset = dataclasses.replace(
        pairs, task=dataclasses.replace(pairs.task, classes=2), train=alike(pairs.train), selection=few
    )
    teacher = dataclasses.replace(teacher_of(ridge(dataset)), num_classes=2)
    assert check_teacher(teacher, dataset).measured > 90


def test_a_teacher_that_needs_another_resolution_says_so(digits: Dataset) -> None:
    vit = build("vit_tiny_patch16_224", {"num_classes": 10, "in_chans": 1, "img_size": 16, "depth": 1}).eval()
    asks = ImageTeacher("vit", vit, 10, 1, (0.5,), (0.5,), None, "")
    with pytest.raises(TeacherError, match=r"images of 8×8 pixels.*set input_size"):
        check_teacher(asks, digits)


def test_what_libraries_say_of_a_network_that_fails_stays_out_of_the_answer(digits: Dataset) -> None:
    network = build("resnet10t", {"num_classes": 10, "in_chans": 3}).eval()  # its shapes are PyTorch's complaint
    with pytest.raises(TeacherError, match=r"does not take images of 8×8 pixels \(it fails with a RuntimeError\)"):
        check_teacher(ImageTeacher("resnet", network, 10, 1, (0.5,), (0.5,), None, ""), digits)


@pytest.fixture(scope="module")
def rare() -> Dataset:
    """400 images of noise; in the corner of 20 of them there is a light, and that is their class."""
    rng = np.random.default_rng(0)
    x_NHWC = rng.integers(0, 200, (400, 8, 8, 1), dtype=np.uint8)
    y_N = (np.arange(400) % 20 == 0).astype(np.int64)
    x_NHWC[:, 0, 0, 0] = np.where(y_N, 255, 0)
    train, selection, test = complete(ImageSplit(x_NHWC, y_N), None, None)
    return assemble(train, selection, test, 2, ("common", "rare"))


def looking_for_the_light(rows: slice) -> ImageTeacher:
    """Answers by the corner's pixel, but only of some images of a batch; of others it says `common`."""

    class Light(torch.nn.Module):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            light_B = torch.zeros(len(x_BCHW))
            light_B[rows] = x_BCHW[rows, 0, 0, 0]
            return torch.stack([torch.full_like(light_B, 0.5), light_B], 1)

    return ImageTeacher("light", Light(), 2, 1, (0.0,), (1.0,), None, "")


def test_a_perfect_teacher_of_uneven_data_is_one(rare: Dataset) -> None:
    checked = check_teacher(looking_for_the_light(slice(None)), rare)
    assert checked.scores == {"balanced_acc": 100.0, "acc": 100.0}


def test_the_largest_class_is_no_knowledge_of_uneven_data(rare: Dataset) -> None:
    with pytest.raises(TeacherError, match=r"has a balanced accuracy of 50\.0 % of the 60 selection images"):
        check_teacher(looking_for_the_light(slice(0, 0)), rare)


def test_a_bound_stays_below_perfection(rare: Dataset) -> None:
    """Also where nobody knows that the classes are uneven, as in a task of before."""
    unknown = dataclasses.replace(rare, task=dataclasses.replace(rare.task, prevalence=()))
    assert check_teacher(looking_for_the_light(slice(None)), unknown).measured == 100
