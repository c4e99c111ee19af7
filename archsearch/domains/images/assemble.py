"""Three splits become a `ImageDataset`: statistics of the training pixels and a name for all the bytes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from archsearch.data.labels import prevalence
from archsearch.domains.images.task import ImageDataset, Images, ImageTask
from archsearch.request import Fit

# N images, H W space, C channels, K classes


def assemble(
    train: Images,
    selection: Images,
    test: Images,
    classes: int,
    class_names: tuple[str, ...] = (),
    fit: Fit = "crop",
) -> ImageDataset:
    """The data set of three checked splits; labels N×K make its task a multi-label one."""
    height, width, in_chans = train.sizes
    mean, std = train.statistics()
    shares = prevalence(train.y_N, classes)
    task = ImageTask(classes, in_chans, height, width, mean, std, class_names, prevalence=shares, fit=fit)
    if train.y_N.ndim == 2:
        task = replace(task, kind="multilabel")
    return ImageDataset(task, train, selection, test, fingerprint(train, selection, test))


def fingerprint(train: Images, selection: Images, test: Images) -> str:
    """SHA-256, in hex, over shape, type and bytes of all images and labels, whatever file they came from.

    Of images that stay encoded it is over the bytes of their files, and what becomes of those.
    """
    digest = hashlib.sha256()
    for name, split in (("train", train), ("selection", selection), ("test", test)):
        split.feed(digest, name)
    return digest.hexdigest()
