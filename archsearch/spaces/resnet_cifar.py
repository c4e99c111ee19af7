"""ResNets for small images: three stages, each with its own depth and width."""

from __future__ import annotations

from archsearch.data.task import Task
from archsearch.request import Architecture
from archsearch.spaces.space import Cost, Parameter, Space, TimmModel, conv_cost, spaces, total


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


def cost(architecture: Architecture, task: Task) -> Cost:
    height, width = task.height, task.width
    c_in = architecture["width1"]
    parts = [conv_cost(task.in_chans, c_in, 3, height * width), Cost(2 * c_in, 0)]
    for i in (1, 2, 3):
        depth, c_out = architecture[f"depth{i}"], architecture[f"width{i}"]
        stride = 1 if i == 1 else 2
        height, width = -(-height // stride), -(-width // stride)
        hw = height * width
        parts += [conv_cost(c_in, c_out, 3, hw), Cost(2 * c_out, 0)]
        parts += [conv_cost(c_out, c_out, 3, hw), Cost(2 * c_out, 0)] * (2 * depth - 1)
        if stride != 1:
            parts += [conv_cost(c_in, c_out, 1, hw), Cost(2 * c_out, 0)]
        c_in = c_out
    head = Cost(c_in * task.classes + task.classes, c_in * task.classes)
    return total(*parts, head)


spaces.add(
    "resnet_cifar",
    Space(
        name="resnet_cifar",
        doc="ResNets for small images (8–64 px): three stages, depth and width of each.",
        parameters=parameters,
        model=model,
        cost=cost,
        optimizer="sgd",
        stock=False,
    ),
)
