"""What a task means to the rest of the house: head, labels, and the images to learn them from.

Two kinds of image classification are built: one label an image, or any number of labels an image (`multilabel`). A task
of another kind (text, detection) will be another `Task` with its own loss and metric; the rooms above ask the task, or
the shape of the labels, instead of assuming one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from archsearch.data.notes import Note
from archsearch.request import Fit

if TYPE_CHECKING:
    from torch import Tensor

# N images, H W space, C channels, K classes

Kind = Literal["classification", "multilabel"]
# Images of the largest class for each of the smallest, above which accuracy hides what becomes of the smallest.
UNEVEN = 3.0
# N numbers of classes, or N×K of 0 and 1.
Labels = npt.NDArray[np.int64] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Task:
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
    def uneven(self) -> bool:
        """Whether one class has so many more images than another that accuracy says little: three times as many.

        Such a task is judged by balanced accuracy, and its labels' loss weighs the classes.
        """
        shares = self.prevalence
        return self.kind == "classification" and bool(shares) and max(shares) > UNEVEN * min(shares)

    @property
    def chance(self) -> float:
        """What guessing reaches of what the task is judged by, in percent.

        Accuracy: the largest class's share, which answering with it always reaches. Balanced accuracy: the same for any
        guess. mAP: the labels' mean prevalence, for a ranking that knows nothing finds as many positives among its
        first images as among all.
        """
        if self.kind == "multilabel":
            return 100.0 * sum(self.prevalence) / len(self.prevalence)
        if self.uneven or not self.prevalence:
            return 100.0 / self.classes
        return 100.0 * max(self.prevalence)


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        x_NHWC: uint8.
        y_N: int64 in [0, classes). Of a multi-label task it is N×K, uint8: 1 where an image has a label, else 0.
    """

    x_NHWC: npt.NDArray[np.uint8]
    y_N: Labels

    def __len__(self) -> int:
        return len(self.y_N)

    def take(self, rows: slice | npt.NDArray[np.integer]) -> Split:
        """The images of these rows with their labels."""
        return Split(self.x_NHWC[rows], self.y_N[rows])

    def images(self) -> Tensor:
        """The images as a uint8 tensor N×C×H×W (a copy, writable)."""
        import torch

        # Not ascontiguousarray: one-channel images would come back as a view of a read-only memory map.
        return torch.from_numpy(np.array(self.x_NHWC.transpose(0, 3, 1, 2), dtype=np.uint8, order="C"))

    def pixels(self, rows: slice) -> Tensor:
        """The images of some rows as networks are asked about them: N×C×H×W in 0-1."""
        return self.take(rows).images().float() / 255

    def labels(self) -> Tensor:
        """The labels as a tensor (a copy): N int64, or N×K float32, which binary cross-entropy takes."""
        import torch

        return torch.from_numpy(np.array(self.y_N, dtype=np.int64 if self.y_N.ndim == 1 else np.float32))


@dataclass(frozen=True)
class Dataset:
    """A task with its three splits. `sha256` names the bytes of all splits together.

    train: the student learns from it. selection: decisions are made on it. test: read once, at the very end.
    notes: what loading found that its owner should hear; no part of the data's identity.
    """

    task: Task
    train: Split
    selection: Split
    test: Split
    sha256: str
    notes: tuple[Note, ...] = ()
