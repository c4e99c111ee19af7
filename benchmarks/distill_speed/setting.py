"""What all contestants share: a pair of networks, the images, the training the field asks for."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.data.task import Dataset
from archsearch.domains.images.normalise import normalise
from archsearch.domains.images.task import ImageTask
from archsearch.precision import Precision
from archsearch.request import DistillSpec

# It has no types.
timm_models: Any = import_module("timm.models")

ALPHA, TEMPERATURE = 0.9, 4.0
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}

# A loop yields after every step and never ends.
Loop = Generator[None, None, None]


@dataclass(frozen=True)
class Pair:
    """CIFAR ResNets by depth and, after an x, by what their widths of 16, 32 and 64 are multiplied with."""

    teacher: str
    student: str

    def __str__(self) -> str:
        return f"ResNet-{self.teacher} → ResNet-{self.student}"


@dataclass(frozen=True)
class Setting:
    """What all contestants share.

    Attributes:
        precision: Ours and the floor's.
        workers: Most a loader may have.
        warmup, steps: Of a turn, untimed and timed.
        home: Where the view cache may be.
    """

    pair: Pair
    batch_size: int
    dataset: Dataset
    device: str
    precision: Precision
    workers: int
    warmup: int
    steps: int
    home: Path

    @property
    def spec(self) -> DistillSpec:
        """The field's training as we are asked for it, one epoch of it."""
        values = {"batch_size": self.batch_size, "precision": self.precision, "device": self.device, "epochs": 1}
        return DistillSpec.model_validate({"recipe": "cifar", "method": "kd", **values})


def student_of(setting: Setting) -> nn.Module:
    """The student in train mode on the device, with the same weights for everyone."""
    torch.manual_seed(0)
    return network(setting.pair.student, setting.dataset.task).to(setting.device).train()


def teacher_of(setting: Setting) -> nn.Module:
    """The frozen teacher in eval mode on the device, with the same weights for everyone.

    With the statistics it is born with, a deep network's answers explode: it takes those of a batch.
    """
    torch.manual_seed(1)
    task = setting.dataset.task
    teacher = network(setting.pair.teacher, task).to(setting.device).train()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    x_BCHW = setting.dataset.train.take(slice(0, 64)).images().to(setting.device) / 255
    with torch.no_grad():
        teacher(normalise(x_BCHW, task.mean, task.std))
    return teacher.eval().requires_grad_(False)


def network(name: str, task: ImageTask) -> nn.Module:
    """A CIFAR ResNet by its name in the field's tables, as timm builds it."""
    depth, _, factor = name.partition("x")
    sizes = {
        "depths": ((int(depth) - 2) // 6,) * 3,
        "widths": tuple(width * int(factor or 1) for width in (16, 32, 64)),
    }
    found: nn.Module = timm_models.create_model("cifar_resnet", num_classes=task.classes, **sizes)
    return found
