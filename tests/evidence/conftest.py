"""Tiny networks of the families evidence is taken of, and a batch of digits."""

# B batch, C channels, H W space, K classes, D features

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import timm
import torch
from torch import Tensor, nn

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.data import Dataset
from archsearch.domains.images.normalise import normalise
from archsearch.evidence import Evidence, NetworkEvidence, Read, observe_student, observe_teacher
from archsearch.precision import Precision

READS: frozenset[Read] = frozenset(get_args(Read))

CELL = ["nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_3x3"]
NETS: dict[str, dict[str, Any]] = {
    "cifar_resnet": {"depths": [1, 2, 1], "widths": [8, 16, 24]},
    "nasbench201": {"cell": CELL, "width": 8, "cells": 1},
    "vit_tiny_patch16_224": {
        "img_size": 8,
        "patch_size": 2,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "class_token": False,
        "global_pool": "avg",
    },
    "pit_ti_224": {
        "img_size": 8,
        "patch_size": 2,
        "stride": 1,
        "base_dims": [8, 8, 8],
        "depth": [1, 1, 1],
        "heads": [1, 2, 2],
    },
}


@dataclass(frozen=True)
class Batch:
    """Sixteen digits, or pairs of digits, and their labels: B, or B×K where there are many an image."""

    x_BCHW: Tensor
    y_B: Tensor

    def teacher(self, model: nn.Module, *reads: Read) -> NetworkEvidence:
        return observe_teacher(model, self.x_BCHW, self.y_B, set(reads))

    def observe(
        self, model: nn.Module, *reads: Read, teacher: NetworkEvidence | None = None, precision: Precision = "fp32"
    ) -> Evidence:
        """A student's evidence; without a teacher, one that answers at random."""
        if teacher is None:
            logits_BK = torch.randn(len(self.y_B), 10, generator=torch.Generator().manual_seed(1))
            teacher = NetworkEvidence(3 * logits_BK)
        return observe_student(model, self.x_BCHW, self.y_B, teacher, set(reads), precision)


@pytest.fixture
def batch(digits: Dataset) -> Batch:
    x_BCHW = normalise(digits.train.images()[:16].float() / 255, digits.task.mean, digits.task.std)
    return Batch(x_BCHW, digits.train.labels()[:16])


@pytest.fixture
def many(pairs: Dataset) -> Batch:
    """Two digits an image, 8×16."""
    x_BCHW = normalise(pairs.train.images()[:16].float() / 255, pairs.task.mean, pairs.task.std)
    return Batch(x_BCHW, pairs.train.labels()[:16])


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """A network of a family by name: `build("cifar_resnet", seed=1)`."""

    def make(name: str, seed: int = 0, **args: Any) -> nn.Module:
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False, num_classes=10, in_chans=1, **{**NETS[name], **args})

    return make


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest, build: Callable[..., nn.Module]) -> nn.Module:
    return build(request.param)


@pytest.fixture
def wide_net(net: nn.Module, request: pytest.FixtureRequest, build: Callable[..., nn.Module]) -> nn.Module:
    """The same families for images of `many`'s size."""
    name = request.node.callspec.params["net"]
    return build(name, img_size=(8, 16)) if "img_size" in NETS[name] else net


@pytest.fixture
def every_read() -> frozenset[Read]:
    return READS
