"""Three splits become a `ImageDataset`: statistics of the training pixels and a name for all the bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from archsearch.data.duplicates import Looked
from archsearch.data.labels import prevalence
from archsearch.data.splits import complete
from archsearch.data.task import Truth
from archsearch.data.unlabelled import no_labels
from archsearch.domains.images.duplicates import look_apart
from archsearch.domains.images.layout import UNLABELLED
from archsearch.domains.images.task import ImageDataset, Images, ImageTask
from archsearch.request import Fit, OnDuplicates

S = TypeVar("S", bound=Images)

# N images, H W space, C channels, K classes


def settle(
    given: Mapping[str, S],
    looked: Looked[S],
    duplicates: OnDuplicates,
    classes: int,
    class_names: tuple[str, ...] = (),
    fit: Fit = "crop",
    *,
    called: Callable[[int], str] = lambda row: f"image {row} of x_unlabelled",
) -> ImageDataset:
    """The data set of splits that were looked at for duplicates: what is missing is held out of train.

    Args:
        given: The splits as they were read, `unlabelled` among them if it is there.
        looked: What `duplicates.look` made of those with labels.
        called: What an image without labels is called, by its row.

    Without any classes no image has a label, and the teacher's will be the task.

    Raises DataError where a split stays empty, or images without labels are refused.
    """
    splits = looked.splits
    three = complete(splits["train"], splits.get("selection"), splits.get("test"), looked.group_N)
    named = dict(zip(("train", "selection", "test"), three, strict=True))
    apart, notes = look_apart(named, given.get(UNLABELLED), duplicates, called)
    dataset = assemble(*three, classes, class_names, fit, unlabelled=apart)
    return replace(dataset, notes=(*(() if classes else (no_labels("image"),)), *looked.notes, *notes))


def assemble(
    train: Images,
    selection: Images,
    test: Images,
    classes: int,
    class_names: tuple[str, ...] = (),
    fit: Fit = "crop",
    *,
    unlabelled: Images | None = None,
) -> ImageDataset:
    """The data set of three checked splits; labels N×K make its task a multi-label one, no classes the teacher's."""
    height, width, in_chans = train.sizes
    mean, std = train.statistics()
    shares = prevalence(train.y_N, classes) if classes else ()
    truth: Truth = "labels" if classes else "teacher"
    task = ImageTask(classes, in_chans, height, width, mean, std, class_names, prevalence=shares, fit=fit, truth=truth)
    if train.y_N.ndim == 2:
        task = replace(task, kind="multilabel")
    name = fingerprint(train, selection, test, unlabelled)
    return ImageDataset(task, train, selection, test, name, unlabelled=unlabelled)


def fingerprint(train: Images, selection: Images, test: Images, unlabelled: Images | None = None) -> str:
    """SHA-256, in hex, over shape, type and bytes of all images and labels, whatever file they came from.

    Of images that stay encoded it is over the bytes of their files, and what becomes of those.
    """
    digest = hashlib.sha256()
    splits = {"train": train, "selection": selection, "test": test}
    for name, split in (splits if unlabelled is None else {**splits, UNLABELLED: unlabelled}).items():
        split.feed(digest, name)
    return digest.hexdigest()
