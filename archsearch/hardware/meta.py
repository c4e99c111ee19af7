"""What a network costs, counted on the meta device: no weights, no arithmetic, exact."""

# B batch, C channels, H W space

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.memory import peak_bytes
from archsearch.request import Architecture
from archsearch.spaces import Cost, Space

if TYPE_CHECKING:
    from torch import nn

    from archsearch.hardware.ruler import Ruler
    from archsearch.teachers import Teacher


def measure(space: Space, architecture: Architecture, task: Task) -> Cost:
    """Parameters and MACs of an architecture, counted by torch itself on the meta device."""
    return measure_model(_on_meta(space, architecture, task), (task.in_chans, task.height, task.width))


def measure_exactly(space: Space, architecture: Architecture, ruler: Ruler) -> Cost:
    """A cost as torch counts it on the network itself, and its state's bytes; latency is left out.

    Bytes in int8 follow from the closed form: what is quantised is decided by an exporter.
    """
    task, closed = ruler.task, ruler.estimate(space, architecture)
    model = _on_meta(space, architecture, task)
    counted = measure_model(model, (task.in_chans, task.height, task.width))
    half = 2 if ruler.size_precision == "fp16" else 1
    stored = sum(v.nbytes // (half if v.is_floating_point() else 1) for v in model.state_dict().values())
    peak = closed.peak_activation_bytes
    return replace(
        counted,
        size_bytes=closed.size_bytes if ruler.size_precision == "int8" else stored,
        peak_activation_bytes=None if peak is None else peak_activation_bytes(space, architecture, task, ruler.batch),
    )


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

    model = _on_meta(space, architecture, task).eval()
    x_BCHW = torch.empty(batch, task.in_chans, task.height, task.width, device="meta")
    with torch.no_grad():
        return x_BCHW.untyped_storage().nbytes() + peak_bytes(lambda: model(x_BCHW))


def _on_meta(space: Space, architecture: Architecture, task: Task) -> nn.Module:
    import torch

    with torch.device("meta"):
        # torch's counter trips over views of trainable parameters (class tokens).
        return space.build(architecture, task).requires_grad_(False)
