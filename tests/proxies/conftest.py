"""Students of every registered space, and evidence of whatever a test says it is."""

# B batch, C channels, H W space, K classes, D features, O outputs, I inputs

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archsearch.data import Dataset
from archsearch.domains.images.normalise import normalise
from archsearch.evidence import Evidence, Layer, NetworkEvidence, Read, observe_student
from archsearch.spaces import of_domain
from archsearch.testing.pairs import Pair, pair_of

# Convolutional families beside resnet_cifar and nasbench201, which show every proxy the same kinds of layers quickly.
LONGER = {"convnext", "mobilenet", "regnet", "resnet"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs over these families is run by `make test-all`."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("pair") in LONGER:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(name="pair_of", scope="session")
def _pair_of() -> Callable[[str], Pair]:
    """Each space's pair, made once: `pair_of("vit")`, or `pair_of("vit, many labels")` on two digits an image."""
    return pair_of


@pytest.fixture(params=[space.name for space in of_domain("image_classification")])
def pair(request: pytest.FixtureRequest) -> Pair:
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
