"""Attention in the frequency domain."""

# B batch, C channels of the student, O of the teacher, H W space, F of the half spectrum of W

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archsearch.distill.adapters.layers import normed


class FrequencyAttention(nn.Module):
    """A student's map through a trained global filter without the lowest frequencies, and beside it a 1×1 convolution.

    Args:
        channels_in, channels_out: C and O.
        height, width: Of the map.
        cutoff: Share of the spectrum's half width below which frequencies are taken out.
    """

    passed_HF: Tensor

    def __init__(self, channels_in: int, channels_out: int, height: int, width: int, cutoff: float) -> None:
        super().__init__()
        self.filter_HFCO2 = nn.Parameter(_first_filter(channels_in, channels_out, height, width))
        self.local = nn.Conv2d(channels_in, channels_out, 1)
        self.shares = nn.Parameter(torch.full((2,), 0.5))
        self.norm = nn.BatchNorm2d(channels_out)
        self.register_buffer("passed_HF", high_pass(height, width, cutoff), persistent=False)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        spectrum_HFBC = torch.fft.rfft2(map_BCHW, norm="ortho").permute(2, 3, 0, 1)
        filter_HFCO = torch.view_as_complex(self.filter_HFCO2 * self.passed_HF[..., None, None, None])
        filtered_BOHF = (spectrum_HFBC @ filter_HFCO).permute(2, 3, 0, 1)
        everywhere_BOHW = torch.fft.irfft2(filtered_BOHF, s=map_BCHW.shape[2:], norm="ortho")
        return normed(self.norm, self.shares[0] * everywhere_BOHW + self.shares[1] * self.local(map_BCHW))


class FrequencyAttentions(nn.Module):
    """One module a stage."""

    def __init__(self, stages: Sequence[FrequencyAttention]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [stage(map_BCHW) for stage, map_BCHW in zip(self.stages, maps, strict=True)]


def _first_filter(channels_in: int, channels_out: int, height: int, width: int) -> Tensor:
    """Random weights, real and imaginary part last.

    Published are uniform ones for every frequency, of which a real map feels the mean of each and its mirror image's
    conjugate: that is what is drawn here, for the half of the spectrum that says all about a real map.
    """
    shape = (2, height, width // 2 + 1, channels_in, channels_out)
    first, mirrored = torch.rand(2, *shape) / (2 * channels_in * channels_out)
    return torch.stack((first[0] + mirrored[0], first[1] - mirrored[1]), -1)


def high_pass(height: int, width: int, cutoff: float) -> Tensor:
    """1 for frequencies that pass and 0 for the lowest ones, H×F.

    Published is a box that reaches one step further to the negative side; here it is symmetric, so that the filter of
    a real map stays a real one. Maps of fewer than 2 / cutoff positions lose nothing, as published.
    """
    low_H = torch.fft.fftfreq(height, 1 / height).abs() < int(cutoff * (height // 2))
    low_F = torch.arange(width // 2 + 1) < int(cutoff * (width // 2))
    passed_HF: Tensor = ~(low_H[:, None] & low_F)
    return passed_HF.float()
