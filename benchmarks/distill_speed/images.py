"""The images everyone trains on, and the crops and flips the field's loaders make of them."""

# C channels, H W space, N images

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from archsearch.data.task import Dataset
from archsearch.domains.images.task import ImageSplit, ImageTask
from benchmarks.cifar import load_cifar

# It has no types.
transforms: Any = import_module("torchvision.transforms")

NOISE_IMAGES = 4096
SELECTION_IMAGES = 64
# A loader shuffles again and again; no measurement comes this far.
ENDLESS = 10**9


def load_images(folder: Path | None) -> tuple[Dataset, str]:
    """The images, and what they are."""
    if folder is not None:
        dataset = load_cifar(folder, 100)
        return dataset, f"{len(dataset.train)} images of CIFAR-100"
    generator = np.random.default_rng(0)
    x_NHWC = generator.integers(0, 256, (NOISE_IMAGES, 32, 32, 3), np.uint8)
    split = ImageSplit(x_NHWC, generator.integers(0, 100, NOISE_IMAGES))
    few = split.take(slice(0, SELECTION_IMAGES))
    task = ImageTask(100, 3, 32, 32, (0.5,) * 3, (0.29,) * 3)
    return Dataset(task, split, few, few, "noise"), f"{NOISE_IMAGES} images of noise"


def one_epoch(dataset: Dataset, images: int) -> Dataset:
    """As many images as a turn shows, so that its training has one epoch; and few to evaluate on at its end."""
    rows_N = np.arange(images) % len(dataset.train)
    few = dataset.selection.take(slice(0, SELECTION_IMAGES))
    return replace(dataset, train=dataset.train.take(rows_N), selection=few, sha256=f"{dataset.sha256}/{images}")


class Photos(torch.utils.data.Dataset[tuple[Any, ...]]):
    """Images as PIL hands them to a transform, with their labels and, where asked for, their numbers."""

    def __init__(self, split: ImageSplit, transform: Any, *, numbered: bool = False) -> None:
        self.x_NHWC, self.labels = split.x_NHWC, split.y_N.tolist()
        self.transform, self.numbered = transform, numbered

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = self.transform(Image.fromarray(self.x_NHWC[index]))
        return (image, self.labels[index], index) if self.numbered else (image, self.labels[index])


def field_transform(task: ImageTask) -> Any:
    """What RepDistiller, mdistiller and torchdistill do to a training image of CIFAR."""
    return transforms.Compose([*crop_and_flip(), transforms.ToTensor(), transforms.Normalize(task.mean, task.std)])


def crop_and_flip() -> list[Any]:
    return [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
