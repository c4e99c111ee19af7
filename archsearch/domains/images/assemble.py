"""Three splits become a `ImageDataset`: statistics of the training pixels and a name for all the bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from archsearch.data.labels import prevalence
from archsearch.domains.images.task import ImageDataset, ImageSplit, ImageTask
from archsearch.request import Fit

# N images, H W space, C channels, K classes

CHUNK_BYTES = 2**22
# One grey level: a constant channel normalises to zeros rather than to infinities.
MIN_STD = 1 / 255


def assemble(
    train: ImageSplit,
    selection: ImageSplit,
    test: ImageSplit,
    classes: int,
    class_names: tuple[str, ...] = (),
    fit: Fit = "crop",
) -> ImageDataset:
    """The data set of three checked splits; labels N×K make its task a multi-label one."""
    _, height, width, in_chans = train.x_NHWC.shape
    mean, std = channel_statistics(train.x_NHWC)
    shares = prevalence(train.y_N, classes)
    task = ImageTask(classes, in_chans, height, width, mean, std, class_names, prevalence=shares, fit=fit)
    if train.y_N.ndim == 2:
        task = replace(task, kind="multilabel")
    return ImageDataset(task, train, selection, test, fingerprint(train, selection, test))


def channel_statistics(x_NHWC: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, of pixels in 0-1; a deviation is at least 1/255.

    The sums are whole numbers, so the result does not depend on how the images are cut into chunks.
    """
    channels = x_NHWC.shape[-1]
    sums, squares = np.zeros((2, channels), dtype=np.uint64)
    for chunk_NHWC in chunks(x_NHWC):
        wide_NHWC = chunk_NHWC.astype(np.uint32)
        sums += wide_NHWC.sum(axis=(0, 1, 2), dtype=np.uint64)
        squares += np.square(wide_NHWC).sum(axis=(0, 1, 2), dtype=np.uint64)
    count = x_NHWC.size // channels
    moments = [(int(s), count * int(q) - int(s) ** 2) for s, q in zip(sums, squares, strict=True)]
    mean = tuple(s / count / 255 for s, _ in moments)
    std = tuple(max(math.sqrt(spread) / count / 255, MIN_STD) for _, spread in moments)
    return mean, std


def fingerprint(train: ImageSplit, selection: ImageSplit, test: ImageSplit) -> str:
    """SHA-256, in hex, over shape, type and bytes of all images and labels, whatever file they came from."""
    digest = hashlib.sha256()
    for name, split in (("train", train), ("selection", selection), ("test", test)):
        digest.update(f"{name} uint8 {split.x_NHWC.shape}\n".encode())
        for chunk_NHWC in chunks(split.x_NHWC):
            digest.update(np.ascontiguousarray(chunk_NHWC, dtype=np.uint8).data)
        kind, bytes_ = ("int64", "<i8") if split.y_N.ndim == 1 else ("uint8", "u1")
        digest.update(f"{name} {kind} {split.y_N.shape}\n".encode())
        digest.update(np.ascontiguousarray(split.y_N, dtype=bytes_).data)
    return digest.hexdigest()


def chunks(x_NHWC: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Consecutive images, about 4 MiB at a time."""
    step = max(1, CHUNK_BYTES // max(1, x_NHWC[:1].nbytes))
    for start in range(0, len(x_NHWC), step):
        yield x_NHWC[start : start + step]
