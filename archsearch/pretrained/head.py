"""The layer that answers: what it reads, and how a closed-form map is put into it."""

# B batch, C channels, H W space, D features, K classes

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.device import where
from archsearch.errors import InvalidRequest
from archsearch.inherit.shown import unlearned
from archsearch.ridge import Ridge

if TYPE_CHECKING:
    from torch import Tensor, nn

# Examples that pass through a network at once.
_AT_ONCE = 64


class NoHead(InvalidRequest):
    """A network whose answers are no linear map of its features."""


def answering(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """The one layer with weights of a network's classifier; raises NoHead where it is not one, or not linear."""
    from torch import nn

    seen: Any = model
    head = seen.get_classifier() if hasattr(seen, "get_classifier") else None
    found = [module for module in head.modules() if _has_own(module)] if isinstance(head, nn.Module) else []
    if len(found) == 1:
        (layer,) = found
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)):
            return layer
    raise NoHead(f"a {type(model).__name__} does not answer by one linear layer on its features")


def features(model: nn.Module, x: Tensor) -> Tensor:
    """What a network's last layer reads of examples, B×D in float32 on the processor; in eval mode.

    Raises NoHead where it reads more than one vector an example.
    """
    import torch

    layer, seen = answering(model), list[torch.Tensor]()
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().float().cpu()))
    try:
        with unlearned(model):
            for part in pieces(x):
                model(part.to(where(model)))
    finally:
        hook.remove()
    found = torch.cat([part.flatten(1) for part in seen]) if len(seen) == len(pieces(x)) else None
    if found is None or len(found) != len(x) or found.shape[1] != layer.weight.shape[1]:
        raise NoHead(f"a {type(model).__name__} does not answer by one look at one vector an example")
    return found


def pieces(x: Tensor) -> tuple[Tensor, ...]:
    """Examples as they pass through a network, none of them alone, for batch norm learns nothing from one."""
    return x.chunk(max(1, -(-len(x) // _AT_ONCE)))


def batch_norms(model: nn.Module) -> list[Any]:
    """Those of a network, in its order."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def settle_norms(model: nn.Module, x: Tensor) -> None:
    """Take the running statistics of batch norms anew from examples, as training will see them."""
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    with unlearned(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all it is shown
            norm.train()
        for part in pieces(x) if norms else ():
            model(part.to(where(model)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def answer_by(model: nn.Module, head: Ridge) -> None:
    """Put a map from features to logits into the layer that answers."""
    import torch

    layer = answering(model)
    with torch.no_grad():
        layer.weight.copy_(head.coefficients_DK.T.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(head.intercept_K)


def _has_own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
