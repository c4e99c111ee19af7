"""What a network costs, counted on the meta device: no weights, no arithmetic, exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.shape import Shape
from archsearch.data.task import Task
from archsearch.memory import peak_bytes
from archsearch.request import Architecture
from archsearch.spaces import Cost, Space

if TYPE_CHECKING:
    from torch import nn

    from archsearch.teachers import Teacher


def measure(space: Space, architecture: Architecture, task: Task) -> Cost:
    """Parameters and MACs of an architecture, counted by torch itself on the meta device."""
    return measure_model(on_meta(space, architecture, task), domains.of(task).shape(task))


def measure_model(model: nn.Module, shape: Shape) -> Cost:
    """Parameters, and multiply-accumulates of one example: half of what `torch.utils.flop_counter` counts, or what
    a network says of itself that torch does not compute."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counted: Any = getattr(model, "counted", None)
    if counted is not None:  # what another runtime computes
        return Cost(*counted(shape))
    parameter = next(model.parameters())
    x = shape.zeros(1, parameter.device) if shape.vocabulary else shape.empty(1, parameter.device, parameter.dtype)
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    model.train(was_training)
    params = sum(weight.numel() for weight in model.parameters())
    return Cost(params=params, macs=counter.get_total_flops() // 2)


def measure_teacher(teacher: Teacher, task: Task) -> Cost:
    """Cost of the teacher on examples as it takes them."""
    return measure_model(teacher.model, teacher.shape(task))


def peak_activation_bytes(space: Space, architecture: Architecture, task: Task, batch: int) -> int:
    """The most bytes of activations alive at one time in an fp32 inference pass of `batch` examples, weights apart.

    Counted as torch runs the network layer by layer, the batch itself included; a compiler may need less.
    """
    import torch

    model = on_meta(space, architecture, task).eval()
    x = domains.of(task).shape(task).empty(batch)
    with torch.no_grad():
        return x.untyped_storage().nbytes() + peak_bytes(lambda: model(x))


def teacher_activation_bytes(teacher: Teacher, task: Task, batch: int) -> int | None:
    """The same of the teacher, on examples as it takes them; None of one that torch does not compute."""
    import torch
    from torch.func import functional_call

    model: Any = teacher.model
    if getattr(model, "counted", None) is not None:
        return None
    state = {name: torch.empty_like(value, device="meta") for name, value in model.state_dict(keep_vars=True).items()}
    x = teacher.shape(task).empty(batch)
    with torch.no_grad():
        return x.untyped_storage().nbytes() + peak_bytes(lambda: functional_call(model, state, (x,)))


def on_meta(space: Space, architecture: Architecture, task: Task) -> nn.Module:
    import torch

    with torch.device("meta"):
        # torch's counter trips over views of trainable parameters (class tokens).
        return space.build(architecture, task).requires_grad_(False)
