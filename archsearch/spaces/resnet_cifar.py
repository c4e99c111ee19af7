"""ResNets for small images: three stages, each with its own depth and width."""

from __future__ import annotations

from archsearch.data.task import Task
from archsearch.request import Architecture
from archsearch.spaces.count import Count, batch_norm, conv, linear, total
from archsearch.spaces.space import Parameter, Space, TimmModel, spaces


def parameters(task: Task) -> tuple[Parameter, ...]:
    depths = tuple(Parameter(f"depth{i}", 1, 9, 1, f"blocks in stage {i}") for i in (1, 2, 3))
    widths = tuple(
        Parameter(f"width{i}", 8, high, 8, f"channels of stage {i}")
        for i, high in zip((1, 2, 3), (64, 128, 256), strict=True)
    )
    return depths + widths


def model(architecture: Architecture, task: Task) -> TimmModel:
    depths, widths = ([architecture[f"{name}{i}"] for i in (1, 2, 3)] for name in ("depth", "width"))
    return TimmModel("cifar_resnet", {"depths": depths, "widths": widths})


def count(architecture: Architecture, task: Task) -> Count:
    height, width = task.height, task.width
    c_in = architecture["width1"]
    parts = [conv(task.in_chans, c_in, 3, height * width), batch_norm(c_in, height * width)]
    for i in (1, 2, 3):
        depth, c_out = architecture[f"depth{i}"], architecture[f"width{i}"]
        stride = 1 if i == 1 else 2
        height, width = -(-height // stride), -(-width // stride)
        hw = height * width
        norm = batch_norm(c_out, hw)
        first = [conv(c_in, c_out, 3, hw, stride=stride), norm]
        rest = [conv(c_out, c_out, 3, hw), norm] * (2 * depth - 1)
        parts += [part.beside(c_out * hw) for part in first + rest]
        if stride != 1:
            parts += [conv(c_in, c_out, 1, hw, stride=stride), norm]
        c_in = c_out
    return total(*parts, linear(c_in, task.classes, 1))


spaces.add(
    "resnet_cifar",
    Space(
        name="resnet_cifar",
        doc="ResNets for small images (8–64 px): three stages, depth and width of each.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="sgd",
        stock=False,
    ),
)
