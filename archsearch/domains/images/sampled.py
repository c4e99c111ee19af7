"""Views that are too many to list, of which some are drawn once: parts at random scales, strong changes, mixtures.

What an image looks like in its view number v follows from its own number and v, whoever trains and with whatever seed:
students, seeds and verification share the teacher's answers. All that changes pixels is timm's.
"""

# C channels, H W space, N images

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.domains.images.task import Images, ImageTask
from archsearch.domains.images.views import SampledViews

Pixels = npt.NDArray[np.uint8]

# RandAugment (Cubuk et al. 2020) and random erasing (Zhong et al. 2020) as in timm's trainings. Beyond 9 its posterize
# leaves no bit of a colour, which Pillow refuses.
RAND_AUGMENT, ERASED = "rand-m9-mstd0.5-mmax9-inc1", 0.25
# Of the views that may be mixed, how many are: the others are of one image, as those that the student is asked about.
MIXED = 0.5


@dataclass(frozen=True)
class Partner:
    """What a view is mixed with, and the share that is the image's own."""

    row: int
    view: int
    share: float


class Shown:
    """The views of a training's images, as torch's loader asks for them: by image and view in one number."""

    def __init__(self, split: Images, task: ImageTask, views: SampledViews, labelled: int) -> None:
        self.split, self.task, self.views, self.labelled = split, task, views, labelled

    def __len__(self) -> int:
        return len(self.split) * self.views.count

    def __getitems__(self, keys: list[int]) -> Pixels:
        """B×C×H×W."""
        return np.stack([self.view(*divmod(key, self.views.count)) for key in keys])

    def view(self, row: int, view: int) -> Pixels:
        """One of them, C×H×W."""
        import torch

        own_CHW = self._alone(row, view)
        if not self.views.mixes or self.partner(row, view).share == 1:
            return own_CHW
        with _numpy_from(f"mix/{row}/{view}"):
            other, other_view = self._drawn_partner(row)
            pair_2CHW = torch.from_numpy(np.stack([own_CHW, self._alone(other, other_view)])).float()
            mixed_CHW, _ = self._mixed(pair_2CHW)
        found: Pixels = mixed_CHW.round().to(torch.uint8).numpy()
        return found

    def partner(self, row: int, view: int) -> Partner:
        """What that view is mixed with; itself where it is of one image."""
        import torch

        with _numpy_from(f"mix/{row}/{view}"):
            other, other_view = self._drawn_partner(row)
            _, share = self._mixed(torch.zeros(2, 1, self.task.height, self.task.width))
        return Partner(other, other_view, share)

    def _drawn_partner(self, row: int) -> tuple[int, int]:
        """One of its own kind: what has a label is mixed with what has one."""
        first, last = (0, self.labelled) if row < self.labelled else (self.labelled, len(self.split))
        return int(np.random.randint(first, last)), int(np.random.randint(self.views.count))

    def _mixed(self, pair_2CHW: Any) -> tuple[Any, float]:
        """The first of two images with some of the other in it, and how much of it is its own."""
        import torch

        mixed_2CHW, shares_22 = self._mixup(pair_2CHW, torch.tensor([0, 1]))
        return mixed_2CHW[0], float(shares_22[0, 0])

    def _alone(self, row: int, view: int) -> Pixels:
        import torch
        from PIL import Image

        (x_HWC,) = self.split.pixels(np.array([row]))
        with _drawn_from(f"view/{row}/{view}"):
            found: Any = self._transform(Image.fromarray(x_HWC[:, :, 0] if self.task.in_chans == 1 else x_HWC))
            x_CHW: Pixels = np.asarray(found).reshape(self.task.in_chans, *x_HWC.shape[:2])
            if not self.views.strong:
                return x_CHW
            # What is erased becomes 0, which is to be the mean.
            centred_CHW = self._erasing(torch.from_numpy(x_CHW).float() - self._mean_C11)
            return (centred_CHW + self._mean_C11).round().clamp(0, 255).to(torch.uint8).numpy()  # type: ignore[no-any-return]

    @cached_property
    def _transform(self) -> Any:
        from timm.data.transforms_factory import create_transform

        size = (self.task.in_chans, self.task.height, self.task.width)
        strong: dict[str, Any] = {"auto_augment": RAND_AUGMENT, "mean": self.task.mean} if self.views.strong else {}
        # use_prefetcher leaves pixels as uint8: teacher and student normalise for themselves.
        return create_transform(size, is_training=True, use_prefetcher=True, color_jitter=0.0, **strong)

    @cached_property
    def _erasing(self) -> Any:
        from timm.data.random_erasing import RandomErasing

        make: Any = RandomErasing
        return make(ERASED, mode="const", device="cpu")

    @cached_property
    def _mixup(self) -> Any:
        from timm.data.mixup import Mixup

        make: Any = Mixup
        alphas = {"mixup_alpha": self.views.mixup, "cutmix_alpha": self.views.cutmix}
        return make(**alphas, prob=MIXED, label_smoothing=0.0, num_classes=2)

    @cached_property
    def _mean_C11(self) -> Any:
        import torch

        return 255 * torch.tensor(self.task.mean)[:, None, None]


@contextmanager
def _drawn_from(what: str) -> Iterator[None]:
    """Python's, NumPy's and torch's numbers, all of which timm draws, begin where `what` says, and are put back."""
    import torch

    seed, before = zlib.crc32(what.encode()), random.getstate()
    with _numpy_from(what), torch.random.fork_rng(devices=[]):
        random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)


@contextmanager
def _numpy_from(what: str) -> Iterator[None]:
    """The same of NumPy's alone, which is all that mixtures are drawn from."""
    before = np.random.get_state()
    np.random.seed(zlib.crc32(what.encode()))
    try:
        yield
    finally:
        np.random.set_state(before)
