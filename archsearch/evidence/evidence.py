"""What proxies see. Nothing here computes; `observe.py` fills it."""

# B batch, C channels, H W space, K classes, D features, P parameters

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Read = Literal[
    # From the forward pass.
    "relations",
    "head",
    "codes",
    "patterns",
    "spectra",
    # From the backward pass of the distillation loss, or of the labels' loss.
    "live",
    "gradients",
    "label_gradients",
    "samples",
    "label_samples",
    "fisher",
    "input_kernel",
    # Passes of their own.
    "jacobian",
    "ntk",
    "fisher_information",
    "gains",
    "spectral_gains",
    "synflow",
    "zen",
    "grasp",
    "zico",
]


class NotMeasured(LookupError):
    """A proxy looks at something it did not say it reads."""


@dataclass(frozen=True)
class NetworkEvidence:
    """What one network shows on the batch.

    Attributes:
        logits_BK: Its answers.
        grams_BB: F·Fᵀ of each stage's flattened map, first stage to last; B×B whatever the widths. Of texts, of the
            means of their real tokens.
        head_gradient_KD: Gradient of the labels' loss with respect to the classifier's weights, in closed form.
        ntk_BB: Neural tangent kernel of a random projection of the logits.
    """

    logits_BK: Tensor
    grams_BB: tuple[Tensor, ...] = ()
    head_gradient_KD: Tensor | None = None
    ntk_BB: Tensor | None = None

    def to(self, device: str) -> NetworkEvidence:
        """The same on another device."""
        head_gradient_KD = None if self.head_gradient_KD is None else self.head_gradient_KD.to(device)
        ntk_BB = None if self.ntk_BB is None else self.ntk_BB.to(device)
        grams_BB = tuple(gram_BB.to(device) for gram_BB in self.grams_BB)
        return NetworkEvidence(self.logits_BK.to(device), grams_BB, head_gradient_KD, ntk_BB)


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: shapes alone, no values.

    Attributes:
        d_out: Outputs at one position, of all groups.
        d_in: Inputs that reach one output: channels of its group times kernel taps.
        groups: Independent matrices the layer consists of.
        taps: Entries of the kernel window, 1 for a linear layer.
        positions: Places in one image it is applied at, or tokens of the batch's longest text; 0 where the forward
            pass never came by.
    """

    name: str
    d_out: int
    d_in: int
    groups: int
    taps: int
    positions: int
    is_head: bool

    @property
    def params(self) -> int:
        """Entries of the weight."""
        return self.d_out * self.d_in


@dataclass(frozen=True)
class Weight:
    """A weight matrix or kernel (out × in…), its gradient, and whether it belongs to the classifier."""

    name: str
    value: Tensor
    gradient: Tensor
    is_head: bool


@dataclass(frozen=True)
class LayerSamples:
    """What the gradients of single samples say about one layer. Of a k×k kernel the centre tap stands for all.

    Attributes:
        layer: The layer.
        weights: How many weights were looked at.
        snr: Σ over weights of mean_b |g_b| / std_b g_b.
        agreement: Σ over weights of |Σ_b sign g_b|; None unless labels' samples were asked for.
    """

    layer: Layer
    weights: int
    snr: Tensor
    agreement: Tensor | None = None


@dataclass(frozen=True)
class Codes:
    """The binary codes activations write a sample in: 1 where the input of a ReLU, GELU or SiLU is positive.

    A text's code is the mean of its real tokens', one number a unit.

    Attributes:
        products_BB: Products of the codes written as ±1, summed over units; None where nothing was coded.
        units: Units in all.
    """

    products_BB: Tensor | None
    units: int


@dataclass(frozen=True)
class Zen:
    """Of Zen-Score's pass: the last feature map's change under a small change of a Gaussian input, and BN's scales.

    Attributes:
        difference: Mean over images of Σ |f(x) − f(x + αε)|, f the last map before it is pooled.
        bn_variances: Mean over channels of each batch norm's variance.
    """

    difference: Tensor
    bn_variances: tuple[Tensor, ...]


@dataclass(frozen=True)
class Evidence:
    """One candidate, measured. Proxies see the shapes always, and of the rest what they said they read.

    Attributes:
        layers: Every convolution and linear layer, in order of the network's modules.
        params: Of the whole network, as torch counts them.
        macs: Multiply-accumulates of the layers above for one image; attention's products are not layers.
        batch_size: Images in the batch.
        teacher: The teacher's evidence on the same images.
        measured: By what was read; use the properties.
    """

    layers: tuple[Layer, ...]
    params: int
    macs: int
    batch_size: int
    teacher: NetworkEvidence
    measured: Mapping[str, Any] = field(default_factory=dict)

    def _get(self, name: str) -> Any:
        if name not in self.measured:
            raise NotMeasured(f"{name} was not measured: the proxy must say that it reads it")
        return self.measured[name]

    @property
    def student(self) -> NetworkEvidence:
        """Logits, and what `relations` and `head` ask for."""
        found: NetworkEvidence = self._get("student")
        return found

    @property
    def codes(self) -> Codes:
        found: Codes = self._get("codes")
        return found

    @property
    def patterns(self) -> int:
        """Distinct patterns over the batch that single units show."""
        return int(self._get("patterns"))

    @property
    def spectra(self) -> tuple[Tensor, ...]:
        """For each block, the eigenvalues of its output channels' covariance over images and positions."""
        found: tuple[Tensor, ...] = self._get("spectra")
        return found

    @property
    def gradients(self) -> tuple[Weight, ...]:
        """Gradients of the distillation loss on the teacher's logits."""
        found: tuple[Weight, ...] = self._get("gradients")
        return found

    @property
    def label_gradients(self) -> tuple[Weight, ...]:
        """Gradients of the labels' loss."""
        found: tuple[Weight, ...] = self._get("label_gradients")
        return found

    @property
    def live(self) -> tuple[tuple[Layer, Tensor], ...]:
        """Layers the distillation loss's backward pass came by, and whether it trains any weight there."""
        found: tuple[tuple[Layer, Tensor], ...] = self._get("live")
        return found

    @property
    def samples(self) -> tuple[LayerSamples, ...]:
        """Single samples' gradients of the distillation loss."""
        found: tuple[LayerSamples, ...] = self._get("samples")
        return found

    @property
    def label_samples(self) -> tuple[LayerSamples, ...]:
        """Single samples' gradients of the labels' loss."""
        found: tuple[LayerSamples, ...] = self._get("label_samples")
        return found

    @property
    def fisher(self) -> tuple[Tensor, ...]:
        """For each layer, Σ_positions activation · gradient: B × channels (labels' loss)."""
        found: tuple[Tensor, ...] = self._get("fisher")
        return found

    @property
    def input_kernel_BB(self) -> Tensor:
        """Correlation of the samples' input gradients of the distillation loss."""
        found: Tensor = self._get("input_kernel")
        return found

    @property
    def jacobian_BB(self) -> Tensor:
        """Correlation of the samples' input gradients of the summed logits."""
        found: Tensor = self._get("jacobian")
        return found

    @property
    def gains(self) -> tuple[Tensor, ...]:
        """For each block, the Frobenius norm of its Jacobian per output, by a random probe; 0 where it is cut off."""
        found: tuple[Tensor, ...] = self._get("gains")
        return found

    @property
    def spectral_gains(self) -> tuple[Tensor, ...]:
        """For each block, the spectral norm of its mean Jacobian at one position, by a random probe."""
        found: tuple[Tensor, ...] = self._get("spectral_gains")
        return found

    @property
    def fisher_information_PP(self) -> Tensor:
        """Fisher information of the first weight of every layer, labels drawn from the student's own answers."""
        found: Tensor = self._get("fisher_information")
        return found

    @property
    def synflow(self) -> tuple[Weight, ...] | None:
        """Absolute weights and ∂R/∂|θ| for an input of ones, norms taken out; None of tokens, which have no ones."""
        found: tuple[Weight, ...] | None = self._get("synflow")
        return found

    @property
    def zen(self) -> Zen | None:
        """None of tokens, which do not change by a little."""
        found: Zen | None = self._get("zen")
        return found

    @property
    def grasp(self) -> tuple[Weight, ...]:
        """Weights and Hessian times gradient, of the labels' loss."""
        found: tuple[Weight, ...] = self._get("grasp")
        return found

    @property
    def zico(self) -> tuple[tuple[Weight, ...], tuple[Weight, ...]]:
        """Gradients of the labels' loss on two halves of the batch."""
        found: tuple[tuple[Weight, ...], tuple[Weight, ...]] = self._get("zico")
        return found
