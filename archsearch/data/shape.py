"""What one example looks like to a network: enough to count, to time, to trace and to weigh it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def laid_out(x: Tensor) -> Tensor:
    """Images channels-last, as convolutions like them; anything else as it is."""
    import torch

    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@dataclass(frozen=True)
class Shape:
    """The tensor of one example, without its values.

    Attributes:
        sizes: Of the tensor: C, H, W of an image; 2, T of a text (token ids above segments).
        vocabulary: The values are whole numbers below it; 0 where they are floats.
    """

    sizes: tuple[int, ...]
    vocabulary: int = 0

    def empty(self, count: int, device: Any = "meta", dtype: Any = None) -> Tensor:
        """A batch without values, for what looks at sizes alone; floats are of `dtype`."""
        import torch

        return torch.empty(count, *self.sizes, device=device, dtype=torch.int64 if self.vocabulary else dtype)

    def zeros(self, count: int, device: Any = "cpu") -> Tensor:
        """A batch of nothing: black pixels, or token 0 over and over."""
        import torch

        return torch.zeros(count, *self.sizes, device=device, dtype=torch.int64 if self.vocabulary else None)

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """A batch of noise, the same every time: a normal distribution, or any tokens in one segment."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        if not self.vocabulary:
            return torch.randn(count, *self.sizes, generator=generator)
        found = torch.randint(self.vocabulary, (count, *self.sizes), generator=generator)
        found[:, 1] = 0
        return found

    @property
    def bytes(self) -> int:
        """Of one example as a network takes it."""
        import math

        return (8 if self.vocabulary else 4) * math.prod(self.sizes)
