"""ResNets for small images: three stages, each with its own depth and width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, batch_norm, conv, linear, total
from archsearch.spaces.kin import Kin, eighths, share
from archsearch.spaces.space import Parameter, Recipe, Space, spaces

if TYPE_CHECKING:
    from torch import nn

STAGES = (1, 2, 3)
_MOST_PIXELS = 128


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    depths = tuple(Parameter(f"depth{i}", 1, 9, 1, f"blocks in stage {i}") for i in STAGES)
    widths = tuple(
        Parameter(f"width{i}", 8, high, 8, f"channels of stage {i}")
        for i, high in zip((1, 2, 3), (64, 128, 256), strict=True)
    )
    return depths + widths


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    depths, widths = ([architecture[f"{name}{i}"] for i in (1, 2, 3)] for name in ("depth", "width"))
    return Recipe("cifar_resnet", {"depths": depths, "widths": widths}, stock=False)


def count(architecture: Architecture, task: ImageTask) -> Count:
    height, width = task.height, task.width
    c_in = architecture["width1"]
    parts = [conv(task.in_chans, c_in, 3, height * width), batch_norm(c_in, height * width)]
    for i in (1, 2, 3):
        depth, c_out = architecture[f"depth{i}"], architecture[f"width{i}"]
        stride = 1 if i == 1 else 2
        height, width = -(-height // stride), -(-width // stride)
        hw = height * width
        norm = batch_norm(c_out, hw)
        first = total(conv(c_in, c_out, 3, hw, stride=stride), norm)
        rest = total(conv(c_out, c_out, 3, hw), norm) * (2 * depth - 1)
        parts += [first.beside(c_out * hw), rest.beside(c_out * hw)]
        if stride != 1:
            parts += [conv(c_in, c_out, 1, hw, stride=stride), norm]
        c_in = c_out
    return total(*parts, linear(c_in, task.classes, 1))


def refuses(task: ImageTask) -> str | None:
    """Two halvings alone would leave maps of large images that no memory holds."""
    side = max(task.height, task.width)
    return f"images of {side} pixels, of which it would keep maps a quarter of that" if side > _MOST_PIXELS else None


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is our `cifar_resnet`."""
    from archsearch.models.cifar_resnet import CifarResNet

    if type(teacher) is not CifarResNet:
        return None
    stages: list[Any] = [teacher.get_submodule(f"layer{i}") for i in STAGES]
    depths, widths = [len(stage) for stage in stages], [stage[0].conv2.out_channels for stage in stages]

    def searched(task: ImageTask) -> tuple[Parameter, ...]:
        found = (Parameter(f"depth{i}", 1, depths[i - 1], 1, f"blocks in stage {i}") for i in STAGES)
        return (*found, *(share(f"width{i}", widths[i - 1], 4, f"channels of stage {i}") for i in STAGES))

    def part(architecture: Architecture) -> Architecture:
        narrower = {f"width{i}": eighths(widths[i - 1], architecture[f"width{i}"], 4) for i in STAGES}
        return {**architecture, **narrower}

    def made(architecture: Architecture, task: ImageTask) -> Recipe:
        return model(part(architecture), task)

    def counted(architecture: Architecture, task: ImageTask) -> Count:
        return count(part(architecture), task)

    return Kin(searched, made, counted, "sgd")


spaces.add(
    "resnet_cifar",
    Space(
        name="resnet_cifar",
        doc="ResNets for small images (8–64 px): three stages, depth and width of each.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="sgd",
        refuses=refuses,
    ),
)
