"""Batches of images: small ones as whole batches on the device, large ones through timm's transforms."""

# B batch, C channels, H W space, N images

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.distill.amount import amount
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch, plan
from archsearch.domains.images.task import ImageDataset, ImageSplit, ImageTask
from archsearch.domains.images.views import Views
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor

# Of a GPU's free memory, what the training images may take.
_RESIDENT_SHARE = 0.25


class Resident:
    """Images as one uint8 array on the device (on the CPU the data set's own, memory-mapped or not)."""

    def __init__(self, dataset: ImageDataset, spec: DistillSpec, device: str, group: Group, views: Views) -> None:
        self.split, self.spec, self.device, self.group, self.views = dataset.train, spec, device, group, views
        self.x_NHWC, self.y = self._resident()

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        import torch

        order_N, generator = plan(len(self.split), self.spec, epoch)
        view_N = self.views.draw(len(self.split), generator)
        # Copied once an epoch: at a copy in every step the CPU would wait for the GPU.
        there_N, view_there_N = order_N.to(self.device), view_N.to(self.device)
        size = amount(self.spec).batch_size
        for step in range(first, len(self.split) // size):
            mine = self.group.share(step * size, size)
            x_BHWC, y = self._take(order_N[mine], there_N[mine])
            x_BCHW = self.views.apply(x_BHWC, view_there_N[mine])
            scaled_BCHW = x_BCHW.to(torch.float32).div_(255)
            yield Batch(scaled_BCHW, y, order_N[mine].numpy(), view_N[mine].numpy())

    def _resident(self) -> tuple[Tensor | None, Tensor]:
        """The images on a GPU that has room for them, and all labels on the device."""
        import torch

        labels = self.split.labels().to(self.device)
        if self.device == "cpu":
            return None, labels
        free_bytes, _ = torch.cuda.mem_get_info()
        if self.split.x_NHWC.nbytes > _RESIDENT_SHARE * free_bytes:
            return None, labels
        return torch.from_numpy(np.array(self.split.x_NHWC)).to(self.device), labels

    def _take(self, row_B: Tensor, on_device_B: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        if self.x_NHWC is not None:
            return self.x_NHWC[on_device_B], self.y[on_device_B]
        x_BHWC = torch.from_numpy(np.ascontiguousarray(self.split.x_NHWC[row_B.numpy()]))
        return x_BHWC.to(self.device, non_blocking=True), self.y[on_device_B]


class Streamed:
    """Images through timm's training transforms in worker processes: random part, random scale, mirrored."""

    def __init__(self, dataset: ImageDataset, spec: DistillSpec, device: str, group: Group) -> None:
        self.split, self.task, self.spec, self.device, self.group = dataset.train, dataset.task, spec, device, group
        self.y = self.split.labels()

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        import torch
        from torch.utils.data import DataLoader

        order_N, _ = plan(len(self.split), self.spec, epoch)
        size = amount(self.spec).batch_size
        rows = [order_N[self.group.share(i * size, size)].tolist() for i in range(first, len(order_N) // size)]
        images = _Transformed(self.split, self.task, self.spec.seed, epoch)
        workers = _workers(self.device)
        loader: Any = DataLoader(
            images,  # type: ignore[arg-type]
            batch_sampler=rows,
            num_workers=workers,
            pin_memory=self.device != "cpu",
            prefetch_factor=2 if workers else None,
        )
        for row_B, x_BCHW in zip(rows, loader, strict=True):
            x_BCHW = x_BCHW.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            y = self.y[row_B].to(self.device, non_blocking=True)
            yield Batch(x_BCHW.float().div_(255), y, np.asarray(row_B, np.int64), None)


class _Transformed:
    """Training images as torch's loader asks for them; what an image looks like in an epoch depends on nothing else."""

    def __init__(self, split: ImageSplit, task: ImageTask, seed: int, epoch: int) -> None:
        from timm.data.transforms_factory import create_transform

        self.split, self.seed, self.epoch, self.grey = split, seed, epoch, task.in_chans == 1
        size = (task.in_chans, task.height, task.width)
        # use_prefetcher leaves pixels as uint8: teacher and student normalise for themselves.
        self.transform: Any = create_transform(size, is_training=True, use_prefetcher=True, color_jitter=0.0)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> Tensor:
        import torch
        from PIL import Image

        seed = zlib.crc32(f"{self.seed}/{self.epoch}/{row}".encode())
        random.seed(seed)  # timm's crop
        x_HWC = self.split.x_NHWC[row]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torchvision's flip
            found: Any = self.transform(Image.fromarray(x_HWC[:, :, 0] if self.grey else x_HWC))
        x_CHW = torch.as_tensor(np.asarray(found))
        return x_CHW[None] if x_CHW.ndim == 2 else x_CHW


def _workers(device: str) -> int:
    """Processes that prepare images: none beside a CPU that trains on all its cores anyway."""
    import os

    return 0 if device == "cpu" else min(16, os.cpu_count() or 1)
