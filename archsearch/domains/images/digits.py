"""The handwritten digits bundled with scikit-learn: small, real, and there without a network."""

from __future__ import annotations

import numpy as np

from archsearch.data.splits import complete
from archsearch.domains.images.assemble import assemble
from archsearch.domains.images.task import ImageDataset, ImageSplit, ImageTask

# N images, H W space, C channels

NAMES = tuple("0123456789")
# What `load_digits` makes, for who need not see the images.
DIGITS = ImageTask(10, 1, 8, 8, (0.30482821122460957,), (0.3755232244916091,), NAMES)
DIGITS_TRAIN = 1169  # images


def load_digits() -> ImageDataset:
    """The 1,797 digits as 8×8 one-channel images: about 65 % train, 15 % selection, 20 % test, stratified."""
    # scikit-learn takes a second to import, and only this function needs it.
    from sklearn import datasets

    digits = datasets.load_digits()
    # The pixels are whole numbers 0-16.
    x_NHWC = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    train, selection, test = complete(ImageSplit(x_NHWC, digits.target.astype(np.int64)), None, None)
    return assemble(train, selection, test, 10, NAMES)
