"""Networks that answer for every pixel learn by the same losses as those that answer once an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archsearch.data.metrics import ACCURACY, measure
from archsearch.distill.loss import losses
from archsearch.distill.train import logits, train
from archsearch.domains.images.task import ImageDataset, ImageSplit
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec
from archsearch.teachers import ImageTeacher, fingerprint

INKS = 3
FIELDS = {"epochs": 2, "batch_size": 64, "augment": "none", "lr": 0.05, "device": "cpu", "precision": "fp32"}


class PixelNet(nn.Module):
    """Answers B×K×H×W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, INKS, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        answers_BKHW: torch.Tensor = self.head(self.stem(x_BCHW).relu())
        return answers_BKHW


def net(width: int, seed: int = 0) -> PixelNet:
    torch.manual_seed(seed)
    return PixelNet(width)


@pytest.fixture(scope="module")
def inked(few_digits: ImageDataset) -> ImageDataset:
    """How much ink each pixel of a digit has; an image's first rows, more or fewer of them, do not count."""

    def of(split: ImageSplit) -> ImageSplit:
        y_NHW = (split.x_NHWC[..., 0].astype(np.int64) * INKS) // 256
        skipped_N = np.arange(len(y_NHW)) % 5
        y_NHW[np.arange(8)[None, :] < skipped_N[:, None]] = -1
        return ImageSplit(split.x_NHWC, y_NHW)  # type: ignore[arg-type]

    task = replace(few_digits.task, classes=INKS, class_names=(), prevalence=())
    train, selection, test = (of(split) for split in (few_digits.train, few_digits.selection, few_digits.test))
    return ImageDataset(task, train, selection, test, "inked")


@pytest.fixture(scope="module")
def knowing(inked: ImageDataset, teacher: ImageTeacher) -> ImageTeacher:
    """A network that was taught by labels."""
    model = net(16)
    list(train(model, inked, DistillSpec(method="none", **{**FIELDS, "epochs": 4}), teacher=None))  # type: ignore[arg-type]
    return replace(teacher, model=model.eval().requires_grad_(False), num_classes=INKS)


def learned(student: nn.Module, inked: ImageDataset, teacher: ImageTeacher | None, **kwargs: Any) -> nn.Module:
    fields = {**FIELDS, **kwargs.pop("fields", {})}
    list(train(student, inked, DistillSpec(**fields), teacher=teacher, **kwargs))
    return student


def reached(student: nn.Module, inked: ImageDataset) -> float:
    return measure(ACCURACY, lambda x: logits(student, inked.task, x), inked.selection)


def test_labels_of_pixels_teach(inked: ImageDataset, knowing: ImageTeacher) -> None:
    counted = inked.selection.y_N[inked.selection.y_N >= 0]
    guess = 100 * np.bincount(counted).max() / len(counted)
    assert reached(knowing.model, inked) > guess + 10


# clkd compares likenesses of classes, which say nothing of which class is which.
ROWS = sorted(
    loss.name for loss in losses if loss.reads == {"logits"} and "classification" in loss.tasks and loss.name != "clkd"
)


def test_every_loss_of_logits_teaches_pixels(
    inked: ImageDataset, knowing: ImageTeacher, subtests: pytest.Subtests
) -> None:
    assert len(ROWS) >= 5
    few = replace(inked, train=inked.train.take(slice(64)))
    for method in ROWS:
        with subtests.test(method=method):
            untrained = net(8)
            before = reached(untrained, inked)
            # By the teacher alone: the labels say nothing.
            fields = {"losses": {method: {}}, "labels": 0.0, "epochs": 1, "batch_size": 8, "lr": 0.01}
            assert reached(learned(untrained, few, knowing, fields=fields), inked) > before


def test_parts_of_a_batch_count_by_their_decisions(inked: ImageDataset, knowing: ImageTeacher) -> None:
    """Images differ in how many pixels count, and yet a batch in parts teaches what it teaches as a whole."""
    whole = learned(net(8), inked, knowing, fields={"method": "kd"})
    parts = learned(net(8), inked, knowing, fields={"method": "kd", "micro_batch": 8})
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_images_of_which_nothing_counts_teach_nothing(inked: ImageDataset) -> None:
    silent = ImageSplit(inked.train.x_NHWC, np.full_like(inked.train.y_N, -1))
    fields = {"method": "none", "weight_decay": 0.0}
    student = learned(net(8), replace(inked, train=silent), None, fields=fields)
    assert fingerprint(student) == fingerprint(net(8))


def test_answers_of_pixels_are_not_kept_as_answers_of_images(
    inked: ImageDataset, knowing: ImageTeacher, tmp_path: Path
) -> None:
    learned(net(8), inked, knowing, cache=tmp_path, fields={"method": "kd"})
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.npy"))


def test_who_needs_labels_of_whole_images_says_so() -> None:
    from archsearch.testing.shown import each_decided_twice, inputs

    for name in ("crd", "l2d"):
        loss = losses.get(name)
        with pytest.raises(InvalidRequest, match="compares examples by their labels") as caught:
            loss.compute(each_decided_twice(inputs(loss)), loss.settings())
        assert caught.value.field == "distill.method"
