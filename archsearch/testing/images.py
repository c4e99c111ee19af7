"""The images the suites look at: digits that come with scikit-learn, alone and in pairs."""

from __future__ import annotations

from functools import cache

import numpy as np

from archsearch.domains.images import load_digits
from archsearch.domains.images.assemble import assemble
from archsearch.domains.images.task import ImageDataset, Images, ImageSplit

# N images, H W space, C channels, K classes


@cache
def digits() -> ImageDataset:
    """8×8 pixels, one channel, ten classes."""
    return load_digits()


@cache
def two_digits() -> ImageDataset:
    """Two digits side by side on 8×16 pixels, labelled with both: many labels an image, no digit in two splits."""
    single = digits()
    train, selection, test = (_paired(s, seed) for seed, s in enumerate((single.train, single.selection, single.test)))
    return assemble(train, selection, test, 10, single.task.class_names)


def _paired(split: Images, seed: int) -> ImageSplit:
    other_N = np.random.RandomState(seed).permutation(len(split))
    x_NHWC = np.concatenate([split.pixels(slice(None)), split.pixels(other_N)], axis=2)
    eye_KK = np.eye(10, dtype=np.uint8)
    return ImageSplit(x_NHWC, eye_KK[split.y_N] | eye_KK[split.y_N[other_N]])
