"""Augmentation of small images as a whole batch at once."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor


def augment(x_BCHW: Tensor, how: Literal["none", "crop", "crop_flip"], generator: Generator) -> Tensor:
    """Shift each image by up to an eighth of its side, black beyond the border, and mirror half of them if asked to.

    At 32×32 this is the published CIFAR recipe (pad 4, crop 32, horizontal flip). Keeps dtype and shape.
    """
    import torch

    if how == "none":
        return x_BCHW
    batch, _, height, width = x_BCHW.shape
    pad_h, pad_w = max(1, height // 8), max(1, width // 8)
    padded_BCHW = torch.nn.functional.pad(x_BCHW, (pad_w, pad_w, pad_h, pad_h))
    top_B = torch.randint(2 * pad_h + 1, (batch,), generator=generator)
    left_B = torch.randint(2 * pad_w + 1, (batch,), generator=generator)
    rows_BH = top_B[:, None] + torch.arange(height)
    columns_BW = left_B[:, None] + torch.arange(width)
    if how == "crop_flip":
        mirrored_B = torch.rand(batch, generator=generator) < 0.5
        columns_BW = torch.where(mirrored_B[:, None], columns_BW.flip(1), columns_BW)
    sample = torch.arange(batch)[:, None, None]
    x_BHWC = padded_BCHW.permute(0, 2, 3, 1)[sample, rows_BH[:, :, None], columns_BW[:, None, :]]
    return x_BHWC.permute(0, 3, 1, 2)
