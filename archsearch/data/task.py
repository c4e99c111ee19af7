"""What a task means to the rest of the house: head, metric, and the images to learn it from.

Only single-label image classification is built; a task of another kind (multi-label, text, detection) will be
another `Task` with its own loss and metric, and the rooms above already ask the task instead of assuming one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

# N images, H W space, C channels


@dataclass(frozen=True)
class Task:
    """A classification task: `classes` labels, images of `in_chans` × `height` × `width` pixels.

    `mean` and `std` are the training split's per-channel statistics of pixels in 0-1.
    """

    classes: int
    in_chans: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    kind: str = "classification"

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent, on balanced classes."""
        return 100.0 / self.classes


@dataclass(frozen=True)
class Split:
    """Images and labels: `x_NHWC` uint8, `y_N` int64 in [0, classes)."""

    x_NHWC: npt.NDArray[np.uint8]
    y_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y_N)

    def images(self) -> Tensor:
        """The images as a uint8 tensor N×C×H×W (a copy, writable)."""
        import torch

        # Not ascontiguousarray: one-channel images would come back as a view of a read-only memory map.
        return torch.from_numpy(np.array(self.x_NHWC.transpose(0, 3, 1, 2), dtype=np.uint8, order="C"))

    def labels(self) -> Tensor:
        """The labels as an int64 tensor of length N."""
        import torch

        return torch.from_numpy(np.array(self.y_N, dtype=np.int64))


@dataclass(frozen=True)
class Dataset:
    """A task with its three splits. `sha256` names the bytes of all splits together.

    train: the student learns from it. selection: decisions are made on it. test: read once, at the very end.
    """

    task: Task
    train: Split
    selection: Split
    test: Split
    sha256: str
