"""How long to train and in batches of how many, where a request leaves that to the size of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsearch.errors import InvalidRequest
from archsearch.recipes import RECIPES
from archsearch.request import DistillSpec

# What is enough where images are many.
EPOCHS, BATCH = 60, 128
# Steps that a training from scratch should have, and passes after which more of the same images teach little
# (docs/decisions/0016 has what fewer steps cost).
STEPS, MOST_EPOCHS = 4000, 300
# A batch is halved until an epoch has so many steps, but not below what batch norm's statistics need.
_STEPS_AN_EPOCH, _SMALLEST = 40, 32
_LEAST = 8


@dataclass(frozen=True)
class Chosen:
    """A spec with `epochs` and `batch_size` filled in, and how they came about, in words."""

    spec: DistillSpec
    why: str


@dataclass(frozen=True)
class Amount:
    """Passes over the training split, and images in a step."""

    epochs: int
    batch_size: int


def chosen(spec: DistillSpec, images: int) -> Chosen:
    """The spec with what it leaves open chosen by the number of training images; what it says stays.

    Raises InvalidRequest where no batch of what it says can be filled.
    """
    if images < _LEAST:
        raise InvalidRequest(f"{images} training examples are too few; a batch takes {_LEAST} at least", field="data")
    batch_size = spec.batch_size or _batch(images, spec)
    published = RECIPES[spec.recipe].get("batch_size")
    if batch_size > images and batch_size == published:  # nobody asked for it
        batch_size = _batch(images, spec)
    if batch_size > images:
        raise InvalidRequest(
            f"{batch_size} is more than the {images} training examples there are", field="distill.batch_size"
        )
    an_epoch = images // batch_size
    epochs = spec.epochs or max(EPOCHS, min(MOST_EPOCHS, -(-STEPS // an_epoch)))
    why = (
        f"{images:,} images: batches of {batch_size}, {an_epoch:,} step{'s' if an_epoch > 1 else ''} an epoch, "
        f"{epochs:,} epoch{'s' if epochs > 1 else ''} = {epochs * an_epoch:,} steps"
    )
    return Chosen(spec.model_copy(update={"epochs": epochs, "batch_size": batch_size}), why)


def amount(spec: DistillSpec) -> Amount:
    """What a spec says of passes and batches, once both have been chosen."""
    assert spec.epochs is not None
    assert spec.batch_size is not None
    return Amount(spec.epochs, spec.batch_size)


def _batch(images: int, spec: DistillSpec) -> int:
    """A power of two, or the nearest below that processes and parts divide."""
    size = BATCH
    while size > _SMALLEST and images // size < _STEPS_AN_EPOCH:
        size //= 2
    unit = spec.devices * (spec.micro_batch or 1)
    size = max(unit, min(size, images) // unit * unit)
    return max(size, math.ceil(_LEAST / unit) * unit)
