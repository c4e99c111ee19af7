"""A student of any space beside a teacher, measured in whatever way a proxy is looked at."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, cast, get_args

import timm
import torch
from torch import Tensor, nn

from archsearch.domains.images.normalise import normalise
from archsearch.domains.images.task import ImageTask
from archsearch.evidence import Evidence, NetworkEvidence, Read, observe_student, observe_teacher
from archsearch.models import CifarResNet
from archsearch.spaces import Space, spaces
from archsearch.testing.images import digits, two_digits

READS: frozenset[Read] = frozenset(get_args(Read))
IMAGES = 24
MANY_LABELS = ", many labels"

# Benchmark spaces keep to their published sizes. A relative cut down to a few channels shows a proxy the same modules.
# The smallest cell of NAS-Bench-201 passes nothing on; this one has each operation.
CELL = ["nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_3x3"]
CUT_DOWN: dict[str, dict[str, Any]] = {
    "autoformer": {"embed_dim": 24, "num_heads": [2, 3], "mlp_ratio": [3.5, 4.0]},
    "nasbench201": {"cell": CELL, "width": 8, "cells": 1},
    "pit": {"base_dims": [8, 8, 8], "depth": [1, 1, 1], "heads": [1, 2, 2]},
}


@dataclass(frozen=True)
class Observed:
    """A student after it was observed, its state before, and what was seen."""

    student: nn.Module
    before: dict[str, Tensor]
    evidence: Evidence


@dataclass(eq=False)
class Pair:
    """A student of one space and a teacher with an equally wide classifier, on one batch of digits, or pairs of them.

    `y_B` is B×K where images have many labels.
    """

    name: str
    space: Space
    task: ImageTask
    teacher: nn.Module
    x_BCHW: Tensor
    other_BCHW: Tensor
    y_B: Tensor

    def student(self, seed: int = 0) -> nn.Module:
        """A small member: every parameter one step above its least."""
        architecture = {p.name: p.low + p.step for p in self.space.parameters(self.task)}
        model = self.space.model(architecture, self.task)
        args = {**model.args, **CUT_DOWN.get(self.space.name, {})}
        torch.manual_seed(seed)
        return timm.create_model(model.name, num_classes=self.task.classes, in_chans=self.task.in_chans, **args)

    @cached_property
    def teacher_evidence(self) -> NetworkEvidence:
        return observe_teacher(self.teacher, self.x_BCHW, self.y_B, READS)

    def fresh_evidence(self, seed: int = 0, reads: Set[Read] = READS, draw: int | None = None) -> Evidence:
        """Measured anew; the random numbers of measuring follow the student's, or start from `draw`."""
        student, teacher = self.student(seed), self.teacher_evidence
        if draw is not None:
            torch.manual_seed(draw)
        return observe_student(student, self.x_BCHW, self.y_B, teacher, reads)

    @cache  # noqa: B019 (lives as long as the process)
    def evidence(self, seed: int = 0) -> Evidence:
        return self.fresh_evidence(seed)

    @cached_property
    def again(self) -> Evidence:
        return self.fresh_evidence()

    @cache  # noqa: B019
    def observed(self, reads: frozenset[Read]) -> Observed:
        """Measured for `reads` and nothing else."""
        student = self.student()
        before = {name: value.clone() for name, value in student.state_dict().items()}
        return Observed(student, before, observe_student(student, self.x_BCHW, self.y_B, self.teacher_evidence, reads))

    @cache  # noqa: B019
    def without_autograd(self, reads: frozenset[Read]) -> Evidence | str:
        """Measured for `reads` in inference mode, or why it could not be."""
        _ = self.teacher_evidence  # kept for all, and therefore made outside
        try:
            with torch.inference_mode():
                return self.fresh_evidence(reads=reads)
        except RuntimeError as error:
            return str(error)

    @cached_property
    def after_a_forward_pass(self) -> dict[str, Tensor]:
        """State of the student once it has seen the batch in train mode."""
        student = self.student().train()
        student(self.x_BCHW)
        return student.state_dict()

    @cached_property
    def changed(self) -> dict[str, Evidence]:
        """The same student's evidence with one thing changed that a proxy may need."""
        return {
            "labels": replace(self, y_B=_other_labels(self.y_B)).fresh_evidence(),
            "teacher": replace(self, teacher=teacher_of(self.student(), self.task, seed=99)).fresh_evidence(),
            "data": replace(self, x_BCHW=self.other_BCHW).fresh_evidence(),
        }

    @cached_property
    def shuffled(self) -> Pair:
        """The same batch in another order; images stay in their half of it, since ZiCo compares the halves."""
        half = len(self.y_B) // 2
        generator = torch.Generator().manual_seed(0)
        order = torch.cat([torch.randperm(half, generator=generator) + start for start in (half, 0)])
        return replace(self, x_BCHW=self.x_BCHW[order], y_B=self.y_B[order])

    @cached_property
    def shuffled_evidence(self) -> Evidence:
        return self.shuffled.fresh_evidence()

    @cache  # noqa: B019
    def redrawn(self, reads: frozenset[Read], count: int = 6) -> list[Evidence]:
        """The same student's evidence with other random numbers each time."""
        return [self.fresh_evidence(reads=reads, draw=1000 + i) for i in range(count)]


@cache
def pair_of(name: str) -> Pair:
    """A space's pair, made once: `pair_of("vit")`, or `pair_of("vit, many labels")` on two digits an image."""
    family = name.removesuffix(MANY_LABELS)
    dataset, space = digits() if family == name else two_digits(), spaces.get(family)
    task = dataset.task
    x_BCHW = normalise(dataset.train.images()[: 2 * IMAGES].float() / 255, task.mean, task.std)
    first_BCHW, other_BCHW = x_BCHW.chunk(2)
    found = Pair(name, space, task, nn.Identity(), first_BCHW, other_BCHW, dataset.train.labels()[:IMAGES])
    found.teacher = teacher_of(found.student(), task, seed=7)
    return found


def teacher_of(student: nn.Module, task: ImageTask, seed: int) -> nn.Module:
    """An untrained ResNet in eval mode whose classifier is as wide as the student's."""
    torch.manual_seed(seed)
    width = cast(Any, student).get_classifier().in_features
    return CifarResNet((1, 1, 2), (8, 16, width), task.classes, task.in_chans).eval()


def _other_labels(y_B: Tensor) -> Tensor:
    return (y_B + 1) % 10 if y_B.ndim == 1 else y_B.roll(1, 1)
