"""Hooks on a network: what passes forward and backward, reduced to small numbers as it passes."""

# B batch, C channels, D features, K classes, N positions, O outputs, I inputs, T tokens, U units

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archsearch.evidence.evidence import Codes, Layer, LayerSamples, NetworkEvidence, Read
from archsearch.evidence.layers import (
    blocks,
    classifier,
    first_tensor,
    first_weight_gradient,
    sample_gradients,
    stage_names,
    weighted,
)
from archsearch.kernels import gram, label_residual, masked_mean
from archsearch.precision import exact

if TYPE_CHECKING:
    from torch import Tensor, nn


_BACKWARD: Set[Read] = {"live", "samples", "label_samples", "fisher", "ntk", "fisher_information"}

_GLANCE = 8

# Activations of transformers' encoders that are classes of its own, told by name: the library may not be installed.
_ENCODERS = {"GELUActivation", "NewGELUActivation", "GELUTanh", "PytorchGELUTanh", "FastGELUActivation"}


class Watch:
    """Watches one forward pass inside `with`, and afterwards every backward pass inside `backward`.

    A feature map is reduced when it comes by and dropped as soon as the network has moved on. Nothing is copied to
    the host: on an accelerator the whole pass stays in its queue.

    Args:
        mask_BT: Which tokens of the batch are real, where it is of tokens: what a network makes of padding, B×T×…, is
            left out. Backward passes need no mask, for no gradient reaches what attention never sees.
    """

    def __init__(self, model: nn.Module, reads: Set[Read], mask_BT: Tensor | None = None) -> None:
        self.reads = reads
        self.mask_BT = mask_BT
        self.longest = 0 if mask_BT is None else int(mask_BT.sum(1).max())
        self.backward_reads: Set[Read] = set()
        self.head = classifier(model)
        self.layer_modules = dict(weighted(model))
        self.features: Tensor | None = None
        self.grams_BB: list[Tensor] = []
        self.spectra: list[Tensor] = []
        self.block_maps: list[tuple[Tensor, Tensor]] = []
        self.code_gram_BB: Tensor | None = None
        self.units = 0
        self.patterns_BU: list[Tensor] = []
        self.positions: dict[str, int] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.fisher: dict[str, Tensor] = {}
        self.alive: dict[str, Tensor] = {}
        self.first_B: dict[str, Tensor] = {}
        self.ntk_BB: Tensor | None = None
        self._model = model
        self._hooks: list[Any] = []

    def __enter__(self) -> Watch:
        on = self._hooks.append
        if "head" in self.reads:
            on(self.head.register_forward_pre_hook(self._keep_features))
        for name, module in self.layer_modules.items():
            on(module.register_forward_hook(self._layer_hook(name)))
        if "relations" in self.reads:
            for name in stage_names(self._model):
                on(self._model.get_submodule(name).register_forward_hook(self._keep_gram))
        if self.reads & {"spectra", "gains", "spectral_gains"}:
            for block in blocks(self._model):
                on(block.register_forward_hook(self._keep_block))
        if self.reads & {"codes", "patterns"}:
            for activation in _activations(self._model):
                on(activation.register_forward_pre_hook(self._keep_codes))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def backward(self, reads: Set[Read]) -> Iterator[None]:
        """Watch a backward pass for `reads`."""
        self.backward_reads, self.summaries, self.fisher, self.first_B, self.alive = reads, {}, {}, {}, {}
        yield
        self.backward_reads = set()

    def layers(self) -> tuple[Layer, ...]:
        found = []
        for name, module in self.layer_modules.items():
            weight = module.weight
            layer = Layer(
                name,
                d_out=weight.shape[0],
                d_in=weight[0].numel(),
                groups=getattr(module, "groups", 1),
                taps=weight[0, 0].numel() if weight.ndim == 4 else 1,
                positions=self.positions.get(name, 0),
                is_head=module is self.head,
            )
            found.append(layer)
        return tuple(found)

    def network(self, logits_BK: Tensor, y: Tensor) -> NetworkEvidence:
        head_gradient_KD = self._head_gradient(logits_BK, y)
        return NetworkEvidence(logits_BK.float(), tuple(self.grams_BB), head_gradient_KD, self.ntk_BB)

    def live(self) -> tuple[tuple[Layer, Tensor], ...]:
        shapes = {layer.name: layer for layer in self.layers()}
        return tuple((shapes[name], alive) for name, alive in self.alive.items())

    def samples(self) -> tuple[LayerSamples, ...]:
        """What the last backward pass showed, layer by layer; layers it never reached are left out."""
        shapes = {layer.name: layer for layer in self.layers()}
        return tuple(LayerSamples(shapes[name], **found) for name, found in self.summaries.items())

    def forward_evidence(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "codes" in self.reads:
            found["codes"] = Codes(self.code_gram_BB, self.units)
        if "patterns" in self.reads:
            found["patterns"] = _distinct(self.patterns_BU)
            self.patterns_BU.clear()
        if "spectra" in self.reads:
            found["spectra"] = tuple(self.spectra)
        return found

    def _of_tokens(self, map_BX: Tensor) -> bool:
        """Whether it has a place for every token of the batch, padding included."""
        return self.mask_BT is not None and map_BX.ndim == 3 and map_BX.shape[:2] == self.mask_BT.shape

    def _head_gradient(self, logits_BK: Tensor, y: Tensor) -> Tensor | None:
        if self.features is None:
            return None
        # ∂L/∂W of a linear head is (∂L/∂z)ᵀ F: no backward pass is needed for it.
        features_BD = self.features.float().flatten(1)  # some heads are 1×1 convolutions
        return label_residual(logits_BK, y).T @ features_BD / len(y)

    def _keep_features(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].detach()

    def _keep_gram(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        map_BX = first_tensor(output).detach()
        with exact(map_BX.device):
            # Of texts their means: the fifth word of one says nothing to the fifth of another.
            self.grams_BB.append(gram(masked_mean(map_BX, self.mask_BT) if self._of_tokens(map_BX) else map_BX))

    def _keep_block(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        map_BX = first_tensor(output)
        if "spectra" in self.reads:
            with exact(map_BX.device):
                mask_BT = self.mask_BT if self._of_tokens(map_BX) else None
                self.spectra.append(_channel_spectrum(map_BX.detach(), mask_BT))
        if self.reads & {"gains", "spectral_gains"}:
            self.block_maps.append((first_tensor(inputs[0]), map_BX))

    def _keep_codes(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        positive_BX = inputs[0].detach() > 0
        of_tokens = self._of_tokens(positive_BX)
        if of_tokens and self.mask_BT is not None:
            positive_BX = (positive_BX & self.mask_BT[:, :, None])[:, self.mask_BT.any(0)]
        positive_BU = positive_BX.flatten(1)
        if "codes" in self.reads:
            sign_BU = positive_BU.float() * 2 - 1
            if of_tokens:  # a text's code is the mean of its tokens'
                sign_BU = masked_mean((inputs[0].detach() > 0).float() * 2 - 1, self.mask_BT)
            with exact(sign_BU.device):
                products_BB = sign_BU @ sign_BU.T
            self.code_gram_BB = products_BB if self.code_gram_BB is None else self.code_gram_BB + products_BB
            self.units += sign_BU.shape[1]
        if "patterns" in self.reads:
            self.patterns_BU.append(positive_BU)

    def _layer_hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def seen(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            of_tokens = self._of_tokens(output)
            self.positions[name] = (
                self.longest if of_tokens else output.numel() // (len(output) * module.weight.shape[0])
            )
            if not output.requires_grad or not self.reads & _BACKWARD:
                return
            input_ = inputs[0].detach()
            output_ = output.detach()
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._on_gradient(name, module, input_, output_, gradient)
            )

        return seen

    def _on_gradient(self, name: str, module: Any, input_: Tensor, output: Tensor, gradient: Tensor) -> None:
        asked = self.backward_reads
        if "live" in asked:
            # Whether anything arrives from both sides; a few images tell.
            self.alive[name] = input_[:_GLANCE].any() & gradient[:_GLANCE].any()
        if "fisher" in asked:
            axes = tuple(range(2, gradient.ndim)) if gradient.ndim == 4 else tuple(range(1, gradient.ndim - 1))
            product = output.float() * gradient.float()
            self.fisher[name] = product.sum(axes) if axes else product
        if "fisher_information" in asked:
            self.first_B[name] = first_weight_gradient(module, input_, gradient)
        if asked & {"samples", "label_samples", "ntk"}:
            sample_BOI = sample_gradients(module, input_, gradient).float()
            if "ntk" in asked:
                flat_BP = sample_BOI.flatten(1)
                kernel_BB = flat_BP @ flat_BP.T
                self.ntk_BB = kernel_BB if self.ntk_BB is None else self.ntk_BB + kernel_BB
            else:
                self.summaries[name] = _summary(sample_BOI, asked)


def _summary(sample_BOI: Tensor, asked: Set[Read]) -> dict[str, Any]:
    import torch

    count = len(sample_BOI)
    size_OI = torch.linalg.vector_norm(sample_BOI, 1, dim=0) / count
    square_OI = torch.linalg.vector_norm(sample_BOI, 2, dim=0).square() / count
    deviation_OI = (square_OI - sample_BOI.mean(0).square()).clamp_min(0).sqrt()
    # Without any noise, as where no sample has a gradient, there is no ratio: such a weight says nothing (so in ZiCo).
    ratio_OI = torch.where(deviation_OI > 0, size_OI / deviation_OI.clamp_min(1e-30), 0)
    found = {"weights": size_OI.numel(), "snr": ratio_OI.sum()}
    if "label_samples" in asked:
        found["agreement"] = sample_BOI.sign().sum(0).abs().sum()
    return found


def _channel_spectrum(map_BX: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Eigenvalues of the channels' covariance over images and positions, at least 0, in ascending order."""
    import torch

    # Maps have their channels second, tokens last.
    rows_ND = map_BX.movedim(1, -1).flatten(0, -2).float() if map_BX.ndim == 4 else map_BX.flatten(0, -2).float()
    if mask_BT is not None:
        rows_ND = rows_ND[mask_BT.flatten()]
    centred_ND = rows_ND - rows_ND.mean(0)
    eigenvalues_D: Tensor = torch.linalg.eigvalsh(centred_ND.T @ centred_ND / len(centred_ND)).clamp_min(0)
    return eigenvalues_D


def _distinct(patterns_BU: list[Tensor]) -> int:
    """How many different columns there are."""
    import numpy as np
    import torch

    if not patterns_BU:
        return 0
    packed_UX = np.packbits(torch.cat(patterns_BU, 1).cpu().numpy(), axis=0).T
    # As many bytes as there are, read as one thing: rows compare in one step.
    rows_U = np.ascontiguousarray(packed_UX).view(f"V{packed_UX.shape[1]}").ravel()
    return len(np.unique(rows_U))


def _activations(model: nn.Module) -> list[nn.Module]:
    """Modules whose sign of input is a code; activations called as plain functions stay unseen."""
    from timm.layers import activations as timms
    from torch import nn

    kinds = (
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
        # timm wraps some of the same functions in classes of its own.
        *(timms.GELU, timms.GELUTanh, timms.QuickGELU, timms.Swish, timms.Mish, timms.HardSwish, timms.PReLU),
    )
    return [module for module in model.modules() if isinstance(module, kinds) or type(module).__name__ in _ENCODERS]
