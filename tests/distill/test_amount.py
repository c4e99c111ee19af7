from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from archsearch import domains
from archsearch.data import Dataset
from archsearch.distill.amount import amount, chosen
from archsearch.distill.train import train
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec
from archsearch.spaces import spaces


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs"),
    [
        (300, 32, 300),  # no further: passes over the same few images
        (1_300, 32, 100),
        (2_000, 32, 65),
        (5_000, 64, 60),
        (8_500, 128, 61),
        (25_600, 128, 60),
        (1_200_000, 128, 60),
    ],
)
def test_few_images_make_small_batches_and_many_passes(images: int, batch_size: int, epochs: int) -> None:
    found = chosen(DistillSpec(), images)
    assert (amount(found.spec).batch_size, amount(found.spec).epochs) == (batch_size, epochs)
    assert chosen(found.spec, images).spec == found.spec, "chosen again, it stays"


@pytest.mark.parametrize(
    ("texts", "batch_size", "epochs"), [(300, 32, 100), (1_300, 32, 25), (6_800, 64, 10), (67_000, 64, 10)]
)
def test_texts_are_passed_over_fewer_times_than_images(texts: int, batch_size: int, epochs: int) -> None:
    found = chosen(DistillSpec(), texts, domains.get("text_classification").pace)
    assert (amount(found.spec).batch_size, amount(found.spec).epochs) == (batch_size, epochs)
    assert found.why.startswith(f"{texts:,} texts: batches of {batch_size}")


def test_the_choice_is_told() -> None:
    told = "1,300 images: batches of 32, 40 steps an epoch, 100 epochs = 4,000 steps"
    assert chosen(DistillSpec(), 1_300).why == told


def test_what_is_said_stays_and_the_rest_follows() -> None:
    assert amount(chosen(DistillSpec(batch_size=128), 1_300).spec).epochs == 300, "ten steps an epoch"
    assert amount(chosen(DistillSpec(epochs=3), 1_300).spec).batch_size == 32
    whole = chosen(DistillSpec(epochs=3, batch_size=100), 1_300).spec
    assert (whole.epochs, whole.batch_size) == (3, 100)


@pytest.mark.parametrize("recipe", ["short", "cifar", "imagenet"])
def test_what_nobody_asked_for_shrinks_to_the_data(recipe: Any) -> None:
    found = chosen(DistillSpec(recipe=recipe), 40).spec
    assert amount(found).batch_size <= 40
    assert chosen(DistillSpec(recipe="cifar"), 5_000).spec == DistillSpec(recipe="cifar"), "published, as it is"


def test_what_was_asked_for_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(InvalidRequest, match="129 is more than the 128 training examples") as caught:
        chosen(DistillSpec(batch_size=129), 128)
    assert caught.value.field == "distill.batch_size"
    with pytest.raises(InvalidRequest, match="5 training examples are too few"):
        chosen(DistillSpec(), 5)


def test_batches_part_into_processes_and_their_parts() -> None:
    assert amount(chosen(DistillSpec(devices=3), 50_000).spec).batch_size == 126
    assert amount(chosen(DistillSpec(devices=2, micro_batch=24), 50_000).spec).batch_size == 96


def test_a_training_chooses_for_itself_where_nobody_did(digits: Dataset) -> None:
    rows = np.arange(40)
    few = replace(
        digits, train=digits.train.take(rows), selection=ImageSplit(digits.test.x_NHWC[:9], digits.test.y_N[:9])
    )
    torch.manual_seed(0)
    space = spaces.get("resnet_cifar")
    model = space.build(space.smallest(digits.task), digits.task)
    last = list(train(model, few, DistillSpec(method="none", epochs=2, augment="none"), teacher=None))[-1]
    assert last.steps == 2, "one batch of 32 an epoch, of 40 images"
    assert last.lr == pytest.approx(0.1 * 32 / 128)
