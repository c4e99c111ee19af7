"""Students of every registered space, measured for every proxy, and evidence of whatever a test says it is."""

# B batch, C channels, H W space, K classes, D features, O outputs, I inputs

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, get_args

import pytest
import timm
import torch
from torch import Tensor, nn

from archsearch.data import Dataset, Task
from archsearch.evidence import Evidence, Layer, NetworkEvidence, Read, observe_student, observe_teacher
from archsearch.models import CifarResNet
from archsearch.spaces import Space, spaces
from archsearch.teachers import normalise

READS: frozenset[Read] = frozenset(get_args(Read))

# Benchmark spaces keep to their published sizes. A relative cut down to a few channels shows a proxy the same modules.
# The smallest cell of NAS-Bench-201 passes nothing on; this one has each operation.
CELL = ["nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_3x3"]
CUT_DOWN: dict[str, dict[str, Any]] = {
    "autoformer": {"embed_dim": 24, "num_heads": [2, 3], "mlp_ratio": [3.5, 4.0]},
    "nasbench201": {"cell": CELL, "width": 8, "cells": 1},
    "pit": {"base_dims": [8, 8, 8], "depth": [1, 1, 1], "heads": [1, 2, 2]},
}


# Convolutional families beside resnet_cifar and nasbench201, which show every proxy the same kinds of layers quickly.
LONGER = {"convnext", "mobilenet", "regnet", "resnet"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs over these families is run by `make test-all`."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("pair") in LONGER:
            item.add_marker(pytest.mark.slow)


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

    space: Space
    task: Task
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

    @cache  # noqa: B019 (lives as long as the session)
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

    @cached_property
    def changed(self) -> dict[str, Evidence]:
        """The same student's evidence with one thing changed that a proxy may need."""
        return {
            "labels": replace(self, y_B=other_labels(self.y_B)).fresh_evidence(),
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


def teacher_of(student: nn.Module, task: Task, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    width = student.get_classifier().in_features
    return CifarResNet((1, 1, 2), (8, 16, width), task.classes, task.in_chans).eval()


def other_labels(y_B: Tensor) -> Tensor:
    return (y_B + 1) % 10 if y_B.ndim == 1 else y_B.roll(1, 1)


@pytest.fixture(scope="session")
def pair_of(digits: Dataset, pairs: Dataset) -> Callable[[str], Pair]:
    """Each space's pair, made once: `pair_of("vit")`, or `pair_of("vit, many labels")` on two digits an image.

    Parametrised itself, the fixture would be made anew whenever spaces alternate.
    """

    @cache
    def make(name: str) -> Pair:
        family, _, many = name.partition(", ")
        dataset, space = pairs if many else digits, spaces.get(family)
        task = dataset.task
        x_BCHW, other_BCHW = normalise(dataset.train.images()[:48].float() / 255, task.mean, task.std).chunk(2)
        found = Pair(space, task, nn.Identity(), x_BCHW, other_BCHW, dataset.train.labels()[:24])
        found.teacher = teacher_of(found.student(), task, seed=7)
        return found

    return make


@pytest.fixture(params=spaces.names())
def pair(request: pytest.FixtureRequest, pair_of: Callable[[str], Pair]) -> Pair:
    return pair_of(request.param)


class Linear(nn.Module):
    """A classifier and nothing else, with weights of our choosing."""

    feature_info = ()

    def __init__(self, weight_KD: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(weight_KD.shape[1], weight_KD.shape[0], bias=False)
        self.fc.weight.data = weight_KD

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.fc(x_BD)


@pytest.fixture
def linear_evidence() -> Evidence:
    """One image of one pixel, 2, and weights (3, 3), so that the student is undecided: p_s = (1/2, 1/2).

    The teacher's logits (4 ln 3, 0) at temperature 4 say p_t = (3/4, 1/4). Hence ∂L/∂z = T(p_s − p_t) = (−1, 1) and
    ∂L/∂W = (−2, 2). Of the labels' cross-entropy, ∂L/∂z = p_s − (1, 0) = (−1/2, 1/2) and ∂L/∂W = (−1, 1).
    """
    x_BD, y_B = torch.tensor([[2.0]]), torch.tensor([0])
    teacher = NetworkEvidence(torch.tensor([[4 * torch.tensor(3.0).log(), 0.0]]))
    student = Linear(torch.tensor([[3.0], [3.0]]))
    return observe_student(student, x_BD, y_B, teacher, {"gradients", "label_gradients"})


@pytest.fixture
def linear_net() -> type[nn.Module]:
    """`linear_net(weight_KD)` is a classifier and nothing else."""
    return Linear


class Small(nn.Module):
    """A convolution, a layer on tokens and a classifier. No norm couples its samples, so each can be taken alone."""

    feature_info = ()

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.act1 = nn.ReLU()
        self.tokens = nn.Linear(4, 6)
        self.act2 = nn.GELU()
        self.head = nn.Linear(6, 10)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x_BCHW: Tensor) -> Tensor:
        tokens_BND = self.act1(self.conv(x_BCHW)).flatten(2).transpose(1, 2)
        return self.head(self.act2(self.tokens(tokens_BND)).mean(1))


@dataclass(frozen=True)
class Single:
    """A network whose samples can be taken one by one, with a batch, labels and a teacher's answers."""

    model: nn.Module
    x_BCHW: Tensor
    y_B: Tensor
    teacher: NetworkEvidence

    def observe(self, *reads: Read) -> Evidence:
        return observe_student(self.model, self.x_BCHW, self.y_B, self.teacher, set(reads))

    def gradients(self, loss: Callable[[Tensor, int], Tensor]) -> list[dict[str, Tensor]]:
        """For each layer its weights' gradient, B×O×I, of `loss(logits_1K, i)` of image i alone, i = 0 … B − 1.

        Of kernels the centre tap, which is what is looked at.
        """
        return [dict(zip(self.layers, self._one(loss, i), strict=True)) for i in range(len(self.y_B))]

    def _one(self, loss: Callable[[Tensor, int], Tensor], i: int) -> list[Tensor]:
        weights = [self.model.get_submodule(name).weight for name in self.layers]
        found = torch.autograd.grad(loss(self.model(self.x_BCHW[i : i + 1]), i), weights)
        return [g[:, :, g.shape[2] // 2, g.shape[3] // 2] if g.ndim == 4 else g for g in found]

    @property
    def layers(self) -> list[str]:
        return [name for name, m in self.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.fixture
def single(digits: Dataset) -> Single:
    torch.manual_seed(0)
    x_BCHW, task = digits.train.images()[:8].float() / 255, digits.task
    x_BCHW = normalise(x_BCHW, task.mean, task.std)
    return Single(Small(), x_BCHW, digits.train.labels()[:8], NetworkEvidence(3 * torch.randn(8, 10)))


@pytest.fixture
def evidence_of() -> Callable[..., Evidence]:
    """Evidence of whatever is given, and of nothing else: `evidence_of(spectra=(eigenvalues_C,))`."""

    def make(
        layers: tuple[Layer, ...] = (),
        teacher: NetworkEvidence | None = None,
        batch_size: int = 1,
        macs: int = 0,
        **measured: Any,
    ) -> Evidence:
        teacher = teacher or NetworkEvidence(torch.zeros(batch_size, 1))
        return Evidence(layers, sum(layer.params for layer in layers), macs, batch_size, teacher, measured)

    return make


@pytest.fixture
def layers() -> tuple[Layer, ...]:
    """A 3×3 convolution 3→16, one of 32 channels in 4 groups, a depthwise one, an MLP 16→32 and a classifier 32→10."""
    return (
        Layer("conv", d_out=16, d_in=27, groups=1, taps=9, positions=64, is_head=False),
        Layer("grouped", d_out=32, d_in=72, groups=4, taps=9, positions=16, is_head=False),
        Layer("depthwise", d_out=32, d_in=9, groups=32, taps=9, positions=16, is_head=False),
        Layer("mlp", d_out=32, d_in=16, groups=1, taps=1, positions=16, is_head=False),
        Layer("head", d_out=10, d_in=32, groups=1, taps=1, positions=1, is_head=True),
    )
