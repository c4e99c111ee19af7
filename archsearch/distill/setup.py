"""What stays the same from a training's first step to its last, beside the student and its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.batches import Alive
from archsearch.data.task import Dataset
from archsearch.device import kind
from archsearch.distill.amount import amount
from archsearch.distill.checkpoint import Parts
from archsearch.distill.chosen_precision import Chosen
from archsearch.distill.group import Group
from archsearch.distill.loader import Loader
from archsearch.distill.pool import pool
from archsearch.distill.schedule import OptimizerName, make_optimizer, scaled_lr
from archsearch.precision import resolve
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import nn

    from archsearch.distill.learner import Learner, Side


@dataclass(frozen=True)
class Setup:
    """Everything a training is made of, and its numbers.

    Attributes:
        run: The side's learner, its gradients averaged over the group.
        parts: What the steps change.
        peak_lr: Of the schedule, before anything made it gentler.
        batch_size: Of all the processes together.
        steps: Of all the epochs.
        chosen: What it was to compute in, and why.
    """

    side: Side
    run: nn.Module
    parts: Parts
    loader: Loader
    dataset: Dataset
    spec: DistillSpec
    device: str
    group: Group
    alive: Alive
    peak_lr: float
    epochs: int
    batch_size: int
    per_epoch: int
    chosen: Chosen

    @property
    def student(self) -> nn.Module:
        return self.parts.student

    @property
    def steps(self) -> int:
        return self.per_epoch * self.epochs

    @property
    def terms(self) -> tuple[str, ...]:
        """What the terms of the loss are called."""
        return self.side.learner.objective.names


def set_up(
    student: nn.Module,
    side: Side,
    dataset: Dataset,
    spec: DistillSpec,
    optimizer: OptimizerName,
    *,
    device: str,
    group: Group,
    alive: Alive,
    wanted: Chosen,
) -> Setup:
    """A training ready for its first step; the arguments are `train`'s, `side` is what `prepare` made of them."""
    import torch

    whole = amount(spec)
    run, loader = _parallel(side.learner, device, group), domains.of(dataset.task).loader(dataset, spec, device, group)
    average = None if spec.ema is None else _average(student, spec.ema)
    scaler = torch.amp.GradScaler(kind(device), enabled=resolve(spec.precision, device) == "fp16")
    optim = make_optimizer(side.learner.parameters(), spec, optimizer)
    return Setup(
        side,
        run,
        Parts(student, side.learner.adapters, optim, average, scaler),
        loader,
        dataset,
        spec,
        device,
        group,
        alive,
        peak_lr=spec.lr or scaled_lr(optimizer, whole.batch_size),
        epochs=whole.epochs,
        batch_size=whole.batch_size,
        per_epoch=pool(dataset, spec).steps,
        chosen=wanted,
    )


def _average(student: nn.Module, decay: float) -> Any:
    from timm.utils.model_ema import ModelEmaV3

    # Warm-up: at first the average follows closely, or it would remember the random start for long.
    return ModelEmaV3(student, decay=decay, use_warmup=True)


def _parallel(learner: Learner, device: str, group: Group) -> nn.Module:
    """The learner with gradients averaged over the group."""
    import torch

    if group.size == 1:
        return learner
    ids = [torch.device(device)] if kind(device) == "cuda" else None
    # Running statistics are the leader's, who evaluates and writes; memories of losses exchange what they learn.
    parallel: nn.Module = torch.nn.parallel.DistributedDataParallel(learner, device_ids=ids, broadcast_buffers=False)
    return parallel
