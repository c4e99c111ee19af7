"""Tasks whose examples are images of one size, and the images themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Dataset, Kind, Labels, Rows, guessing, is_uneven, label_tensor
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

    @property
    def domain(self) -> str:
        return "image_classification"

    @property
    def uneven(self) -> bool:
        """See `data.task.is_uneven`."""
        return is_uneven(self.kind, self.prevalence)

    @property
    def chance(self) -> float:
        """See `data.task.guessing`."""
        return guessing(self.kind, self.classes, self.prevalence)


@dataclass(frozen=True)
class ImageSplit:
    """Images and their labels.

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


ImageDataset = Dataset[ImageTask, ImageSplit]
