"""Tasks whose examples are images of one size, and the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from archsearch.data.task import (
    Dataset,
    Kind,
    Labels,
    Rows,
    Split,
    Truth,
    guessing,
    is_uneven,
    joined_labels,
    label_tensor,
)
from archsearch.domains.images.statistics import Statistics, channel_statistics, chunks
from archsearch.request import Fit

if TYPE_CHECKING:
    from torch import Tensor

# N images, H W space, C channels, K classes


@dataclass(frozen=True)
class ImageTask:
    """A classification task: `classes` labels, images of `in_chans` × `height` × `width` pixels.

    Attributes:
        mean, std: The training split's per-channel statistics of pixels in 0-1.
        kind: Whether each image has one label, or any number of them (`multilabel`), none included.
        prevalence: Share of the training images that have each class or label; empty where it is not known.
        fit: How images of another size become this one: cropped from the centre, padded, or stretched.
        truth: What is held to be right; see `data.task.Task`.
    """

    classes: int
    in_chans: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    kind: Kind = "classification"
    prevalence: tuple[float, ...] = ()
    fit: Fit = "crop"
    truth: Truth = "labels"

    @property
    def domain(self) -> str:
        return "image_classification"

    @property
    def uneven(self) -> bool:
        """See `data.task.is_uneven`."""
        return self.truth == "labels" and is_uneven(self.kind, self.prevalence)

    @property
    def chance(self) -> float:
        """See `data.task.guessing`."""
        return guessing(self.kind, self.classes, self.prevalence)


class Images(Split, Protocol):
    """Images and their labels, wherever the pixels come from: an array, or files that are decoded when asked for."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""

    def pixels(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """The images of some rows: N×H×W×C, contiguous."""

    def images(self) -> Tensor:
        """All of them as a uint8 tensor N×C×H×W (a copy, writable): for a few, taken before."""

    def content(self, row: int) -> bytes | memoryview:
        """What makes an image the same as another: its pixels, or a hash of them."""

    def statistics(self) -> Statistics:
        """Mean and standard deviation of every channel, of pixels in 0-1."""

    def feed(self, digest: Any, name: str) -> None:
        """Have a hash of `hashlib` read all that makes the split, called `name`, what it is."""


@dataclass(frozen=True)
class ImageSplit:
    """Images in an array, and their labels.

    Attributes:
        x_NHWC: uint8.
        y_N: int64 in [0, classes). Of a multi-label task it is N×K, uint8: 1 where an image has a label, else 0.
    """

    x_NHWC: npt.NDArray[np.uint8]
    y_N: Labels

    def __len__(self) -> int:
        return len(self.y_N)

    def take(self, rows: Rows) -> ImageSplit:
        """The images of these rows with their labels."""
        return ImageSplit(self.x_NHWC[rows], self.y_N[rows])

    @property
    def sizes(self) -> tuple[int, int, int]:
        """See `Images`, as for all that follows."""
        _, height, width, channels = self.x_NHWC.shape
        return height, width, channels

    def pixels(self, rows: Rows) -> npt.NDArray[np.uint8]:
        return np.ascontiguousarray(self.x_NHWC[rows])

    def content(self, row: int) -> memoryview:
        return np.ascontiguousarray(self.x_NHWC[row]).data.cast("B")

    def statistics(self) -> Statistics:
        return channel_statistics(self.x_NHWC)

    def feed(self, digest: Any, name: str) -> None:
        digest.update(f"{name} uint8 {self.x_NHWC.shape}\n".encode())
        for chunk_NHWC in chunks(self.x_NHWC):
            digest.update(np.ascontiguousarray(chunk_NHWC, dtype=np.uint8).data)
        feed_labels(digest, name, self.y_N)

    def joined(self, others: Sequence[Self]) -> ImageSplit:
        if not others:
            return self
        every = (self, *others)
        x_NHWC = np.concatenate([split.x_NHWC for split in every])
        return ImageSplit(x_NHWC, joined_labels([split.y_N for split in every]))

    def images(self) -> Tensor:
        """The images as a uint8 tensor N×C×H×W (a copy, writable)."""
        import torch

        # Not ascontiguousarray: one-channel images would come back as a view of a read-only memory map.
        return torch.from_numpy(np.array(self.x_NHWC.transpose(0, 3, 1, 2), dtype=np.uint8, order="C"))

    def examples(self, rows: Rows) -> Tensor:
        """The images of some rows: N×C×H×W in 0-1."""
        return self.take(rows).images().float() / 255

    def labels(self) -> Tensor:
        """The labels as a tensor (a copy): N int64, or N×K float32, which binary cross-entropy takes."""
        return label_tensor(self.y_N)


def feed_labels(digest: Any, name: str, y_N: Labels) -> None:
    """Have a hash read the labels of a split."""
    kind, bytes_ = ("int64", "<i8") if y_N.ndim == 1 else ("uint8", "u1")
    digest.update(f"{name} {kind} {y_N.shape}\n".encode())
    digest.update(np.ascontiguousarray(y_N, dtype=bytes_).data)


ImageDataset = Dataset[ImageTask, Images]
