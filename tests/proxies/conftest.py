"""Evidence of tiny networks, and of pairs whose classifiers are equally wide so that every proxy is defined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import pytest
import torch
from torch import Tensor, nn

from archsearch.data import Dataset, Task
from archsearch.models import CifarResNet
from archsearch.proxies.evidence import Evidence, NetworkEvidence, Weight, observe_student, observe_teacher
from archsearch.spaces import Space, spaces
from archsearch.teachers import normalise

# B batch, C channels, H W space, K classes, D features


@dataclass(eq=False)
class Pair:
    """A student of one space and a teacher with an equally wide classifier, on one batch of digits."""

    space: Space
    task: Task
    teacher: nn.Module
    x_BCHW: Tensor
    y_B: Tensor

    def student(self, seed: int = 0) -> nn.Module:
        """A small member: every parameter one step above its least."""
        parameters = self.space.parameters(self.task)
        torch.manual_seed(seed)
        return self.space.build({p.name: p.low + p.step for p in parameters}, self.task)

    def fresh_evidence(self, seed: int = 0) -> Evidence:
        student = self.student(seed)
        return observe_student(student, self.x_BCHW, self.y_B, observe_teacher(self.teacher, self.x_BCHW, self.y_B))

    @cache  # noqa: B019 (lives as long as the session)
    def evidence(self, seed: int = 0) -> Evidence:
        return self.fresh_evidence(seed)

    @cached_property
    def changed(self) -> dict[str, Evidence]:
        """The same student's evidence with one thing changed that a proxy may need."""
        evidence = self.evidence()
        # Not merely scaled: a proxy may well look at a gradient's direction alone.
        rooted = tuple(replace(w, gradient=w.gradient.sign() * w.gradient.abs().sqrt()) for w in evidence.weights)
        other = _teacher(self.space, self.task, seed=99)
        return {
            "labels": replace(self, y_B=(self.y_B + 1) % 10).fresh_evidence(),
            "teacher": replace(self, teacher=other).fresh_evidence(),
            "data": replace(self, x_BCHW=self.x_BCHW.flip(2)).fresh_evidence(),
            "gradients": replace(evidence, weights=rooted),
        }

    @cached_property
    def shuffled(self) -> Evidence:
        """The evidence of the same batch in another order."""
        order = torch.randperm(len(self.y_B), generator=torch.Generator().manual_seed(0))
        return replace(self, x_BCHW=self.x_BCHW[order], y_B=self.y_B[order]).fresh_evidence()


def _teacher(space: Space, task: Task, seed: int) -> nn.Module:
    parameters = space.parameters(task)
    torch.manual_seed(seed)
    width = space.build({p.name: p.low + p.step for p in parameters}, task).get_classifier().in_features
    return CifarResNet((1, 1, 2), (8, 16, width), task.classes, task.in_chans).eval()


@pytest.fixture(params=spaces.names(), scope="session")
def pair(request: pytest.FixtureRequest, digits: Dataset) -> Pair:
    task, space = digits.task, spaces.get(request.param)
    x_BCHW = normalise(digits.train.images()[:32].float() / 255, task.mean, task.std)
    return Pair(space, task, _teacher(space, task, seed=7), x_BCHW, digits.train.labels()[:32])


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
    ∂L/∂W = (−2, 2).
    """
    x_BD, y_B = torch.tensor([[2.0]]), torch.tensor([0])
    logits_BK = torch.tensor([[4 * torch.tensor(3.0).log(), 0.0]])
    teacher = NetworkEvidence(logits_BK, (), torch.zeros(2, 1))
    return observe_student(Linear(torch.tensor([[3.0], [3.0]])), x_BD, y_B, teacher)


@pytest.fixture
def evidence_of() -> Callable[..., Evidence]:
    """Evidence of whatever is given, and of nothing else: `evidence_of(shapes={"conv": (16, 3, 3, 3)})`."""

    def make(
        shapes: dict[str, tuple[int, ...]] | None = None,
        student: NetworkEvidence | None = None,
        teacher: NetworkEvidence | None = None,
        head: str = "head",
    ) -> Evidence:
        nothing = NetworkEvidence(torch.zeros(1, 1), (), torch.zeros(1, 1))
        weights = tuple(
            Weight(name, torch.ones(shape), torch.ones(shape), name == head) for name, shape in (shapes or {}).items()
        )
        return Evidence(student or nothing, teacher or nothing, weights)

    return make
