"""Batches of images: small ones as whole batches on the device, large ones through timm's transforms."""

# B batch, C channels, H W space, N images

from __future__ import annotations

import logging
import math
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archsearch.data.batches import free_bytes
from archsearch.device import kind
from archsearch.distill.amount import amount
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch, Mixed, plan, shares
from archsearch.distill.pool import learned, pool, targets
from archsearch.domains.image_classification.ahead import Decoded, ahead, workers_for
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.sampled import Shown
from archsearch.domains.images.task import ImageDataset, Images, ImageSplit, ImageTask
from archsearch.domains.images.views import SampledViews, Views
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
# Images as torch's loader asks for them, by which numbers it does in every step, and in which views these are shown.
Asked = tuple[Any, Sequence[Ints], Sequence[Ints | None]]

# Of a GPU's free memory, what the training images may take.
_RESIDENT_SHARE = 0.25


class Resident:
    """Images as one uint8 array on the device (on the CPU the data set's own, memory-mapped or not), or as files."""

    def __init__(self, dataset: ImageDataset, spec: DistillSpec, device: str, group: Group, views: Views) -> None:
        self.rows, self.spec, self.device, self.group, self.views = pool(dataset, spec), spec, device, group, views
        self.split, self.y = learned(dataset, self.rows), targets(dataset, self.rows).to(device)
        self.x_NHWC = self._resident()

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        import torch

        order_N, generator = plan(self.rows, self.spec, epoch)
        view_N = self.views.draw(len(order_N), generator)
        # Copied once an epoch: at a copy in every step the CPU would wait for the GPU.
        there_N, view_there_N = order_N.to(self.device), view_N.to(self.device)
        mine = shares(self.rows, self.group, first)
        for own, x_BHWC in zip(mine, self._shown(order_N, there_N, mine), strict=True):
            x_BCHW = self.views.apply(x_BHWC, view_there_N[own])
            scaled_BCHW = x_BCHW.to(torch.float32).div_(255)
            yield Batch(scaled_BCHW, self.y[there_N[own]], order_N[own].numpy(), view_N[own].numpy())

    def _resident(self) -> Tensor | None:
        """The images on a GPU that has room for them."""
        import torch

        if kind(self.device) == "cpu" or not isinstance(self.split, ImageSplit):
            return None
        if self.split.x_NHWC.nbytes > _RESIDENT_SHARE * free_bytes(self.device):
            return None
        try:
            return torch.from_numpy(np.array(self.split.x_NHWC)).to(self.device)
        except torch.OutOfMemoryError:  # others take of it, too
            log.warning("%s has no room for the training images: they come from this machine's memory", self.device)
            return None

    def _shown(self, order_N: Tensor, there_N: Tensor, mine: Sequence[slice]) -> Iterator[Tensor]:
        """The images of every step, B×H×W×C on the device."""
        import torch

        if self.x_NHWC is not None:
            yield from (self.x_NHWC[there_N[own]] for own in mine)
        elif isinstance(self.split, FileSplit):
            rows, workers = [order_N[own].numpy() for own in mine], workers_for(self.split, self.device)
            for x_BHWC in ahead(Decoded(self.split), rows, self.device, workers, self._batch_bytes()):
                yield x_BHWC.to(self.device, non_blocking=True)
        else:
            for own in mine:
                x_BHWC = torch.from_numpy(self.split.pixels(order_N[own].numpy()))
                yield x_BHWC.to(self.device, non_blocking=True)

    def _batch_bytes(self) -> int:
        return amount(self.spec).batch_size * math.prod(self.split.sizes)


class Streamed:
    """Images through timm's training transforms in worker processes: random part, random scale, mirrored, and more.

    Without views every epoch shows others.
    """

    def __init__(
        self, dataset: ImageDataset, spec: DistillSpec, device: str, group: Group, views: SampledViews | None
    ) -> None:
        self.task, self.spec, self.device, self.group, self.views = dataset.task, spec, device, group, views
        self.rows = pool(dataset, spec)
        self.split, self.y = learned(dataset, self.rows), targets(dataset, self.rows)

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        import torch

        order_N, generator = plan(self.rows, self.spec, epoch)
        mine = shares(self.rows, self.group, first)
        rows = [order_N[own].numpy() for own in mine]
        images, asked, seen = self._images(epoch, order_N, mine, generator)
        batch_bytes = amount(self.spec).batch_size * math.prod(self.split.sizes)
        workers = workers_for(self.split, self.device, self.views is not None)
        shown = ahead(images, asked, self.device, workers, batch_bytes)
        for row_B, view_B, x_BCHW in zip(rows, seen, shown, strict=True):
            x_BCHW = x_BCHW.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            y = self.y[row_B].to(self.device, non_blocking=True)
            yield Batch(x_BCHW.float().div_(255), y, row_B, view_B, self._mixed(images, row_B, view_B))

    def _images(self, epoch: int, order_N: Tensor, mine: Sequence[slice], generator: Any) -> Asked:
        """What is asked for images, by which numbers in every step, and in which views."""
        rows = [order_N[own].numpy() for own in mine]
        if self.views is None:
            return _Transformed(self.split, self.task, self.spec.seed, epoch), rows, [None] * len(rows)
        view_N = self.views.draw(len(order_N), generator).numpy()
        seen = [view_N[own] for own in mine]
        asked = [row_B * self.views.count + view_B for row_B, view_B in zip(rows, seen, strict=True)]
        return Shown(self.split, self.task, self.views, self.rows.labelled), asked, seen

    def _mixed(self, images: Any, row_B: Ints, view_B: Ints | None) -> Mixed | None:
        """What the batch's views are mixed with."""
        import torch

        if view_B is None or self.views is None or not self.views.mixes:
            return None
        partners = [images.partner(row, view) for row, view in zip(row_B.tolist(), view_B.tolist(), strict=True)]
        others = torch.tensor([partner.row for partner in partners])
        y, share_B = self.y[others], torch.tensor([partner.share for partner in partners])
        return Mixed(y.to(self.device, non_blocking=True), share_B.to(self.device, non_blocking=True))


class _Transformed:
    """Training images as torch's loader asks for them; what an image looks like in an epoch depends on nothing else."""

    def __init__(self, split: Images, task: ImageTask, seed: int, epoch: int) -> None:
        from timm.data.transforms_factory import create_transform

        self.split, self.seed, self.epoch, self.grey = split, seed, epoch, task.in_chans == 1
        size = (task.in_chans, task.height, task.width)
        # use_prefetcher leaves pixels as uint8: teacher and student normalise for themselves.
        self.transform: Any = create_transform(size, is_training=True, use_prefetcher=True, color_jitter=0.0)

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, rows: list[int]) -> npt.NDArray[np.uint8]:
        """B×C×H×W."""
        return np.stack([self._shown(row) for row in rows])

    def _shown(self, row: int) -> npt.NDArray[np.uint8]:
        import torch
        from PIL import Image

        seed = zlib.crc32(f"{self.seed}/{self.epoch}/{row}".encode())
        random.seed(seed)  # timm's crop
        (x_HWC,) = self.split.pixels(np.array([row]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torchvision's flip
            found: Any = self.transform(Image.fromarray(x_HWC[:, :, 0] if self.grey else x_HWC))
        x_CHW = np.asarray(found)
        return x_CHW[None] if x_CHW.ndim == 2 else x_CHW
