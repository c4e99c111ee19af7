"""What a network costs, counted on the meta device: no weights, no arithmetic, exact."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.memory import peak_bytes
from archsearch.request import Architecture
from archsearch.spaces import Cost, Space

if TYPE_CHECKING:
    from torch import nn

    from archsearch.teachers import Teacher


def measure(space: Space, architecture: Architecture, task: Task) -> Cost:
    """Parameters and MACs of an architecture, counted by torch itself on the meta device."""
    return measure_model(on_meta(space, architecture, task), (task.in_chans, task.height, task.width))


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


def peak_activation_bytes(space: Space, architecture: Architecture, task: Task, batch: int) -> int:
    """The most bytes of activations alive at one time in an fp32 inference pass of `batch` images, weights apart.

    Counted as torch runs the network layer by layer, the batch itself included; a compiler may need less.
    """
    import torch

    model = on_meta(space, architecture, task).eval()
    x_BCHW = torch.empty(batch, task.in_chans, task.height, task.width, device="meta")
    with torch.no_grad():
        return x_BCHW.untyped_storage().nbytes() + peak_bytes(lambda: model(x_BCHW))


def on_meta(space: Space, architecture: Architecture, task: Task) -> nn.Module:
    import torch

    with torch.device("meta"):
        # torch's counter trips over views of trainable parameters (class tokens).
        return space.build(architecture, task).requires_grad_(False)
