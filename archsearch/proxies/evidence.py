"""Everything measured on a candidate, in one forward and one backward pass over one batch.

Proxies are pure functions of what is collected here: no proxy runs the network, copies it or draws a number.
"""

# B batch, C channels, H W space, K classes, D features

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch.kernels import relation, softened_kl

if TYPE_CHECKING:
    from torch import Tensor, nn

# Soft enough to show what the teacher knows beyond its first choice, as in distillation itself.
TEMPERATURE = 4.0


@dataclass(frozen=True)
class Batch:
    """The one batch every candidate and the teacher are measured on: pixels in 0-1, and labels."""

    x_BCHW: Tensor
    y_B: Tensor


@dataclass(frozen=True)
class NetworkEvidence:
    """What one network shows on the batch.

    Attributes:
        logits_BK: Its answers.
        relations_BB: The relation matrix of each stage, first to last.
        head_gradient_KD: Gradient of the cross-entropy with respect to the classifier's weights, in closed form.
    """

    logits_BK: Tensor
    relations_BB: tuple[Tensor, ...]
    head_gradient_KD: Tensor


@dataclass(frozen=True)
class Weight:
    """A weight matrix or kernel (out × in…), its gradient, and whether it belongs to the classifier."""

    name: str
    value: Tensor
    gradient: Tensor
    is_head: bool


@dataclass(frozen=True)
class Evidence:
    """What proxies see: the student, the teacher, and the gradients of the distillation loss at initialisation."""

    student: NetworkEvidence
    teacher: NetworkEvidence
    weights: tuple[Weight, ...]


def observe_teacher(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> NetworkEvidence:
    """The teacher's evidence, made once for all candidates.

    Args:
        model: The trained teacher, in eval mode.
        x_BCHW: The batch, normalised as the teacher expects it.
        y_B: Labels.
    """
    import torch

    with torch.no_grad(), _stages(model) as seen:
        logits_BK = model(x_BCHW)
    return _network_evidence(logits_BK, seen, y_B)


def observe_student(model: nn.Module, x_BCHW: Tensor, y_B: Tensor, teacher: NetworkEvidence) -> Evidence:
    """One forward and one backward pass of an untrained student.

    Batch norm runs in train mode: untrained running statistics would hide the network from itself. The running
    statistics, the mode and the gradients are the candidate's own; it is thrown away afterwards.

    Args:
        model: The student at initialisation.
        x_BCHW: The batch, normalised as the student will be trained.
        y_B: Labels; only the closed form of the head's gradient looks at them.
        teacher: What `observe_teacher` returned for the same images.
    """
    import torch

    model.train()
    model.zero_grad(set_to_none=True)
    with _stages(model) as seen:
        logits_BK = model(x_BCHW)
    torch.autograd.backward(softened_kl(logits_BK, teacher.logits_BK, TEMPERATURE))
    with torch.no_grad():
        student = _network_evidence(logits_BK.detach(), seen, y_B)
    return Evidence(student=student, teacher=teacher, weights=tuple(_weights(model)))


def classifier(model: nn.Module) -> nn.Module:
    """The network's last linear layer, as timm names it; of a distilled transformer's two the one for the labels."""
    found: Any = model.get_classifier()  # type: ignore[operator]
    head: nn.Module = found[0] if isinstance(found, tuple) else found
    return head


def stage_names(model: nn.Module) -> list[str]:
    """Modules whose outputs are the comparable stages of a network, first to last."""
    info: Any = getattr(model, "feature_info", ())
    # A few timm families name stages that are no modules of theirs.
    modules = {name for name, _ in model.named_modules() if name}
    return [stage["module"] for stage in info if stage["module"] in modules]


@contextmanager
def _stages(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Collect each stage's relation matrix and the classifier's input while the block runs.

    Only the B×B relations are kept: a feature map is dropped as soon as the network has moved on.
    """
    seen: dict[str, Any] = {"relations": []}

    def keep_relation(_module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        # Where a stage passes on a class token or coarser maps beside its map, that comes first.
        map_BX: Tensor = output[0] if isinstance(output, tuple | list) else output
        seen["relations"].append(relation(map_BX.detach()))

    def keep_features(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen["features"] = inputs[0].detach()

    hooks = [model.get_submodule(name).register_forward_hook(keep_relation) for name in stage_names(model)]
    hooks.append(classifier(model).register_forward_pre_hook(keep_features))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _network_evidence(logits_BK: Tensor, seen: dict[str, Any], y_B: Tensor) -> NetworkEvidence:
    # ∂CE/∂W of a linear head is (softmax − one-hot)ᵀ F / B: no backward pass is needed for it.
    residual_BK = logits_BK.float().softmax(1)
    residual_BK[range(len(y_B)), y_B] -= 1
    features_BD = seen["features"].float().flatten(1)  # some heads are 1×1 convolutions
    return NetworkEvidence(
        logits_BK=logits_BK.float(),
        relations_BB=tuple(seen["relations"]),
        head_gradient_KD=residual_BK.T @ features_BD / len(y_B),
    )


def _weights(model: nn.Module) -> Iterator[Weight]:
    head = {id(parameter) for parameter in classifier(model).parameters()}
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and parameter.grad is not None:
            yield Weight(name, parameter.detach(), parameter.grad, id(parameter) in head)
