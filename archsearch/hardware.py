"""What a network costs, counted on the meta device: no weights, no arithmetic, exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.errors import ImpossibleBudget
from archsearch.request import Architecture, Budget
from archsearch.spaces import Cost, Space

if TYPE_CHECKING:
    from torch import nn

    from archsearch.teachers import Teacher

_UNLIMITED = 2**63 - 1


def measure(space: Space, architecture: Architecture, task: Task) -> Cost:
    """Parameters and MACs of an architecture, counted by torch itself on the meta device."""
    import torch

    with torch.device("meta"):
        # torch's counter trips over views of trainable parameters (class tokens).
        model = space.build(architecture, task).requires_grad_(False)
    return measure_model(model, (task.in_chans, task.height, task.width))


def measure_model(model: nn.Module, input_chw: tuple[int, int, int]) -> Cost:
    """Parameters, and multiply-accumulates of one image: half of what `torch.utils.flop_counter` counts."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    parameter = next(model.parameters())
    x_BCHW = torch.empty(1, *input_chw, device=parameter.device, dtype=parameter.dtype)
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x_BCHW)
    model.train(was_training)
    params = sum(weight.numel() for weight in model.parameters())
    return Cost(params=params, macs=counter.get_total_flops() // 2)


def measure_teacher(teacher: Teacher, task: Task) -> Cost:
    """Cost of the teacher at the resolution it is run at."""
    height, width = teacher.input_hw or (task.height, task.width)
    return measure_model(teacher.model, (teacher.in_chans, height, width))


def limits(budget: Budget, teacher: Cost | None) -> Cost:
    """The budget in absolute numbers; a limit that is not set is beyond any network.

    Shares of the teacher need the teacher's cost; without it they do not limit anything yet.
    """
    params = [budget.params, _share(budget.params_ratio, teacher.params if teacher else None)]
    macs = [budget.macs, _share(budget.macs_ratio, teacher.macs if teacher else None)]
    return Cost(
        params=min((limit for limit in params if limit is not None), default=_UNLIMITED),
        macs=min((limit for limit in macs if limit is not None), default=_UNLIMITED),
    )


def fits(cost: Cost, limit: Cost) -> bool:
    return cost.params <= limit.params and cost.macs <= limit.macs


def require_possible(space: Space, task: Task, limit: Cost, budget: Budget) -> None:
    """Raise ImpossibleBudget, naming the smallest network of the space, when nothing in the space fits."""
    cost = space.cost(space.smallest(task), task)
    if not fits(cost, limit):
        raise ImpossibleBudget(
            f"{budget.describe()} is below the smallest network of {space.name} for this data: "
            f"{cost.params:,} parameters and {cost.macs:,} MACs; raise the budget or choose another space",
            field="budget",
        )


def _share(ratio: float | None, whole: int | None) -> int | None:
    return None if ratio is None or whole is None else int(ratio * whole)
