"""A trained network in eval mode, its own normalisation, and what it is known to be."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from archsearch.data.notes import Note

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Teacher:
    """A trained network in eval mode, its own normalisation, and what it is known to be.

    Attributes:
        mean, std: Per channel, of pixels in 0-1, as the weights were trained.
        input_hw: Resolution the weights expect; images of another size are resized. None takes them as they are.
        sha256: Of the weights as they came, by name, shape and value.
        namings: What its outputs are called, as the weights came: a list of names for each way of naming them.
        order: Which of its outputs each of the data's classes is, where they had to be moved; the model has them moved.
        classes_given: Whether the request itself said which output is which class.
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

    @property
    def identity(self) -> str:
        """What its answers depend on: the weights, how it is shown images, and what leaves no trace in weights.

        A transformer's heads or an activation function are arguments that change no weight's shape.
        """
        args = json.dumps(getattr(self.model, "_model_args", {}), sort_keys=True, default=str)
        moved = "" if self.order is None else f" {self.order}"
        return f"{self.sha256} {self.mean} {self.std} {self.input_hw} {type(self.model).__name__} {args}{moved}"

    def prepare(self, x_BCHW: Tensor) -> Tensor:
        """Images in 0-1 as this teacher wants them: resized and normalised."""
        from torch.nn.functional import interpolate

        if self.input_hw is not None and tuple(x_BCHW.shape[2:]) != self.input_hw:
            x_BCHW = interpolate(x_BCHW, size=self.input_hw, mode="bilinear", antialias=True, align_corners=False)
        return normalise(x_BCHW, self.mean, self.std)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """Logits B×K of images in 0-1."""
        logits_BK: Tensor = self.model(self.prepare(x_BCHW))
        return logits_BK


def normalise(x_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x − mean) / std, per channel."""
    import torch

    layout = next(
        (each for each in (torch.contiguous_format, torch.channels_last) if x_BCHW.is_contiguous(memory_format=each)),
        torch.contiguous_format,
    )
    size = (x_BCHW.shape[1], x_BCHW.shape[2], x_BCHW.shape[3])
    mean_CHW, std_CHW = (_spread(each, size, x_BCHW.dtype, x_BCHW.device, layout) for each in (mean, std))
    return (x_BCHW - mean_CHW).div_(std_CHW)


@lru_cache(maxsize=32)
def _spread(values: tuple[float, ...], size: tuple[int, int, int], dtype: Any, device: Any, layout: Any) -> Tensor:
    """A value a channel as a whole image in the images' own memory layout.

    With three values instead, kernels would go through channels-last images three numbers at a time, and a GPU would be
    waited for while they are copied there.
    """
    import torch

    with torch.inference_mode(False):  # kept for every caller, so it must not become one's inference tensor
        each_1C11 = torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)
        return each_1C11.expand(1, *size).contiguous(memory_format=layout)


def fingerprint(model: nn.Module) -> str:
    """sha256 of a network's state: names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
