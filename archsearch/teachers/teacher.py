"""A trained network in eval mode, how it is shown examples, and what it is known to be."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch.data.notes import Note
from archsearch.data.shape import Shape
from archsearch.device import where
from archsearch.domains.images.normalise import normalise
from archsearch.domains.images.task import ImageTask
from archsearch.errors import TeacherError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ImageTeacher:
    """A timm network that was trained on images.

    Attributes:
        mean, std: Per channel, of pixels in 0-1, as the weights were trained.
        input_hw: Resolution the weights expect; images of another size are resized. None takes them as they are.
        sha256: Of the weights as they came, by name, shape and value.
        namings: What its outputs are called, as the weights came: a list of names for each way of naming them.
        order: Which of its outputs each of the data's classes is, where they had to be moved; the model has them moved.
        classes_given: Whether the request itself said which output is which class.
        fitted: Of the weights of a head that was fitted to the data, a sha256; empty where the head came with it.
        size_known: The resolution was asked for, or is the one that timm's own weights were trained at.
        notes: What whoever asked for it should hear.
    """

    name: str
    model: nn.Module
    num_classes: int
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_hw: tuple[int, int] | None
    sha256: str
    namings: tuple[tuple[str, ...], ...] = ()
    order: tuple[int, ...] | None = None
    classes_given: bool = False
    notes: tuple[Note, ...] = ()
    size_known: bool = False
    fitted: str = ""

    @property
    def identity(self) -> str:
        """What its answers depend on: the weights, how it is shown images, and what leaves no trace in weights.

        A transformer's heads or an activation function are arguments that change no weight's shape.
        """
        args = json.dumps(getattr(self.model, "_model_args", {}), sort_keys=True, default=str)
        moved = ("" if self.order is None else f" {self.order}") + self.fitted
        return f"{self.sha256} {self.mean} {self.std} {self.input_hw} {type(self.model).__name__} {args}{moved}"

    def require(self, task: ImageTask) -> None:
        check_channels(self.name, self.in_chans, task)

    def shape(self, task: ImageTask) -> Shape:
        height, width = self.input_hw or (task.height, task.width)
        return Shape((self.in_chans, height, width))

    def told(self, task: ImageTask) -> str:
        _, height, width = self.shape(task).sizes
        return f"images of {height}×{width} pixels"

    def prepare(self, x: Tensor) -> Tensor:
        """Images in 0-1, B×C×H×W, as this teacher wants them: resized and normalised."""
        from torch.nn.functional import interpolate

        if self.input_hw is not None and tuple(x.shape[2:]) != self.input_hw:
            x = interpolate(x, size=self.input_hw, mode="bilinear", antialias=True, align_corners=False)
        return normalise(x, self.mean, self.std)

    def logits(self, x: Tensor) -> Tensor:
        """Logits B×K of images in 0-1."""
        logits_BK: Tensor = self.model(self.prepare(x.to(where(self.model))))
        return logits_BK


def check_channels(name: str, in_chans: int, task: Any, *, field: str = "teacher") -> None:
    """Raise TeacherError where a network takes images of other channels than the data's."""
    if in_chans != task.in_chans:
        raise TeacherError(f"{name} expects {in_chans} channels, the data has {task.in_chans}", field=field)


def fingerprint(model: nn.Module) -> str:
    """sha256 of a network's state: names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
