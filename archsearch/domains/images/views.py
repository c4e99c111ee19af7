"""Augmentation of small images as a whole batch at once, every view of an image with a number."""

# B batch, C channels, H W space

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from archsearch.domains.images.task import ImageTask
from archsearch.request import Augment, DistillSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor


# Sampled views of an image where nobody says how many: as good as eight times as many (Faghri et al. 2023).
COUNT = 50
# α of mixup and CutMix of strong views (Wightman et al. 2021, A2).
STRONG = (0.1, 1.0)


@dataclass(frozen=True)
class Views:
    """The finitely many ways an image is shown: shifts by up to `pad_h`, `pad_w` pixels, black beyond the border.

    At 32×32 `crop_flip` is the published CIFAR recipe (pad 4, crop 32, horizontal flip) with its 81 × 2 views.
    """

    pad_h: int
    pad_w: int
    mirrored: bool

    @property
    def every(self) -> bool:
        """See `domain.Views`."""
        return True

    @property
    def shifts(self) -> int:
        return (2 * self.pad_h + 1) * (2 * self.pad_w + 1)

    @property
    def count(self) -> int:
        return self.shifts * (2 if self.mirrored else 1)

    def draw(self, images: int, generator: Generator) -> Tensor:
        """A view for each image, int64 in [0, count), all equally likely."""
        import torch

        return torch.randint(self.count, (images,), generator=generator)

    def apply(self, x_BHWC: Tensor, view_B: Tensor) -> Tensor:
        """The images in these views: B×C×H×W in channels-last memory, of the same type and on the same device."""
        import torch

        if self.count == 1:
            return x_BHWC.permute(0, 3, 1, 2)
        batch, height, width, channels = x_BHWC.shape
        tall, wide = height + 2 * self.pad_h, width + 2 * self.pad_w
        padded_BHWC = torch.nn.functional.pad(x_BHWC, (0, 0, self.pad_w, self.pad_w, self.pad_h, self.pad_h))
        # Whole rows are copied, not pixels: from every pixel a row begins, and rows overlap in memory.
        rows_NR = padded_BHWC.as_strided(
            (batch * tall * wide - width + 1, width * channels), (channels, 1), padded_BHWC.storage_offset()
        )
        down_B, right_B = view_B % self.shifts // (2 * self.pad_w + 1), view_B % (2 * self.pad_w + 1)
        top_B = torch.arange(batch, device=x_BHWC.device) * tall + down_B
        start_BH = (top_B[:, None] + torch.arange(height, device=x_BHWC.device)) * wide + right_B[:, None]
        shown_BHWC = rows_NR[start_BH].view(batch, height, width, channels)
        if self.mirrored:
            flipped_B = view_B >= self.shifts
            shown_BHWC = torch.where(flipped_B[:, None, None, None], shown_BHWC.flip(2), shown_BHWC)
        return shown_BHWC.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class SampledViews:
    """Some of the views of an augmentation that has no end of them; `images/sampled.py` shows them.

    Attributes:
        count: How many an image has.
        mixup, cutmix: α of the Beta distribution that shares are drawn from (Zhang et al. 2018, Yun et al. 2019); 0 is
            none.
        made_by: Versions of the libraries that change the pixels.
    """

    how: Augment
    count: int
    mixup: float
    cutmix: float
    made_by: str

    @property
    def every(self) -> bool:
        """See `domain.Views`."""
        return False

    @property
    def strong(self) -> bool:
        """Whether RandAugment and random erasing change them."""
        return self.how == "strong"

    @property
    def mixes(self) -> bool:
        """Whether some are of two images."""
        return max(self.mixup, self.cutmix) > 0

    def draw(self, images: int, generator: Generator) -> Tensor:
        """A view for each image, int64 in [0, count), all equally likely."""
        import torch

        return torch.randint(self.count, (images,), generator=generator)


def views_of(spec: DistillSpec, task: ImageTask) -> Views | SampledViews | None:
    """The views of a training; None where each is another."""
    if spec.augment == "strong" or (spec.augment == "resized_crop" and spec.views is not None):
        mixup, cutmix = STRONG if spec.augment == "strong" else (0.0, 0.0)
        mixup, cutmix = mixup if spec.mixup is None else spec.mixup, cutmix if spec.cutmix is None else spec.cutmix
        return SampledViews(spec.augment, spec.views or COUNT, mixup, cutmix, _versions())
    return views(spec.augment, task)


def views(how: Augment, task: ImageTask) -> Views | None:
    """The views of an augmentation at the task's size; None where they are not enumerable."""
    if how == "none":
        return Views(0, 0, mirrored=False)
    if how in ("resized_crop", "strong"):
        return None
    return Views(max(1, task.height // 8), max(1, task.width // 8), mirrored=how == "crop_flip")


def _versions() -> str:
    return " ".join(f"{name} {version(name)}" for name in ("timm", "pillow"))
