"""The course of the learning rate, and the optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from archsearch.distill.amount import amount
from archsearch.request import DistillSpec, Start

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

OptimizerName = Literal["sgd", "adamw"]

# Peak learning rates of one cycle at batch 128; they follow the batch (linearly for SGD, by its root for AdamW).
_PEAK_LR = {"sgd": 0.1, "adamw": 1e-3}
_ONE_CYCLE_WARMUP = 0.15
# Of the peak that noise takes, what weights that know something already are trained with: docs/decisions/0037.
_GENTLE = {"sgd": 0.06, "adamw": 0.2}


def share(spec: DistillSpec, done: float) -> float:
    """Share of the peak learning rate when `done` (0 to 1) of the training is over."""
    if spec.schedule == "one_cycle":
        return one_cycle(done)
    if done < spec.warmup:
        return (done + 0.01) / (spec.warmup + 0.01)
    if spec.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (done - spec.warmup) / (1 - spec.warmup)))
    return float(spec.decay ** sum(done >= milestone for milestone in spec.milestones))


def one_cycle(done: float) -> float:
    """Up in a line, down in a cosine to nothing."""
    if done < _ONE_CYCLE_WARMUP:
        return (done + 0.01) / (_ONE_CYCLE_WARMUP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - _ONE_CYCLE_WARMUP) / (1 - _ONE_CYCLE_WARMUP)))


def scaled_lr(optimizer: OptimizerName, batch_size: int) -> float:
    """The peak learning rate for a batch size."""
    relative = batch_size / 128
    return _PEAK_LR[optimizer] * (relative if optimizer == "sgd" else math.sqrt(relative))


def usual_lr(spec: DistillSpec, family: OptimizerName) -> float:
    """The peak learning rate where nobody says otherwise.

    Args:
        family: What `spec.optimizer="auto"` means.
    """
    name: OptimizerName = family if spec.optimizer == "auto" else spec.optimizer
    return scaled_lr(name, amount(spec).batch_size)


def gentle(spec: DistillSpec, start: Start, family: OptimizerName) -> DistillSpec:
    """The spec with a lower peak rate, where none is given, for a student that begins with more than noise."""
    if start == "scratch" or spec.lr is not None:
        return spec
    name: OptimizerName = family if spec.optimizer == "auto" else spec.optimizer
    return spec.model_copy(update={"lr": _GENTLE[name] * usual_lr(spec, family)})


def make_optimizer(parameters: Iterable[Parameter], spec: DistillSpec, name: OptimizerName) -> Optimizer:
    """Weight decay for matrices and kernels only, unless the recipe says all: norms and biases only lose capacity."""
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2 or spec.decay_all]
    others = [parameter for parameter in trained if parameter.ndim < 2 and not spec.decay_all]
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=1.0, weight_decay=spec.weight_decay, fused=True)
    return torch.optim.SGD(
        groups,
        lr=1.0,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,  # torch has none without momentum
        weight_decay=spec.weight_decay,
        fused=True,
    )
