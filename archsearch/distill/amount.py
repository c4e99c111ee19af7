"""How long to train and in batches of how many, where a request leaves that to the size of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsearch.domains.domain import Pace
from archsearch.errors import InvalidRequest
from archsearch.recipes import RECIPES
from archsearch.request import DistillSpec

# Of images; docs/decisions/0016 has what fewer steps cost.
USUAL = Pace()
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


def chosen(spec: DistillSpec, images: int, pace: Pace = USUAL) -> Chosen:
    """The spec with what it leaves open chosen by the number of training examples; what it says stays.

    Raises InvalidRequest where no batch of what it says can be filled.

    Args:
        pace: The domain's.
    """
    if images < _LEAST:
        raise InvalidRequest(f"{images} training examples are too few; a batch takes {_LEAST} at least", field="data")
    batch_size = spec.batch_size or _batch(images, spec, pace.batch)
    published = RECIPES[spec.recipe].get("batch_size")
    if batch_size > images and batch_size == published:  # nobody asked for it
        batch_size = _batch(images, spec, pace.batch)
    if batch_size > images:
        raise InvalidRequest(
            f"{batch_size} is more than the {images} training examples there are", field="distill.batch_size"
        )
    an_epoch = images // batch_size
    epochs = spec.epochs or max(pace.epochs, min(pace.most_epochs, -(-pace.steps // an_epoch)))
    why = (
        f"{images:,} {pace.examples}: batches of {batch_size}, "
        f"{an_epoch:,} step{'s' if an_epoch > 1 else ''} an epoch, "
        f"{epochs:,} epoch{'s' if epochs > 1 else ''} = {epochs * an_epoch:,} steps"
    )
    return Chosen(spec.model_copy(update={"epochs": epochs, "batch_size": batch_size}), why)


def amount(spec: DistillSpec) -> Amount:
    """What a spec says of passes and batches, once both have been chosen."""
    assert spec.epochs is not None
    assert spec.batch_size is not None
    return Amount(spec.epochs, spec.batch_size)


def _batch(images: int, spec: DistillSpec, size: int) -> int:
    """A power of two, or the nearest below that processes and parts divide."""
    while size > _SMALLEST and images // size < _STEPS_AN_EPOCH:
        size //= 2
    unit = spec.devices * (spec.micro_batch or 1)
    size = max(unit, min(size, images) // unit * unit)
    return max(size, math.ceil(_LEAST / unit) * unit)
