"""The layers adapters are made of."""

# B batch, C channels, H W space

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import batch_norm


class ConvNorm(nn.Module):
    """A convolution that keeps the resolution, and batch normalisation.

    No ReLU follows, though it does in the publications: their maps are all ReLU's own, while here a teacher's may be a
    transformer's tokens, whose negative half a student could not reach through one.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return normed(self.norm, self.conv(x_BCHW))


def normed(norm: nn.BatchNorm2d, x_BCHW: Tensor) -> Tensor:
    """Batch normalisation; a single value a channel has no variance and is normalised by what was seen before."""
    if x_BCHW.numel() > x_BCHW.shape[1]:
        normalised: Tensor = norm(x_BCHW)
        return normalised
    return batch_norm(x_BCHW, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
