"""ConvNeXts as stock timm builds them (Liu et al. 2022): four stages of depthwise convolutions and pointwise MLPs.

The student is timm's `convnext_atto` with other sizes, so timm alone loads it. The stem cuts patches: of four pixels
from 56 px, of one below, where the three halvings between stages are all that such images bear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, conv, layer_norm, learned, linear, total
from archsearch.spaces.kin import Kin, eighths, share
from archsearch.spaces.space import MANY_IMAGES, Parameter, Recipe, Space, spaces

if TYPE_CHECKING:
    from torch import nn

STAGES = (1, 2, 3, 4)
# ConvNeXt-T's depths and widths.
MOST_DEPTHS, MOST_WIDTHS, UNITS = (3, 3, 9, 3), (96, 192, 384, 768), (8, 8, 16, 16)
_FEWEST_PIXELS = 24


@dataclass(frozen=True)
class Net:
    """A ConvNeXt in numbers.

    Attributes:
        most_stride: Of the last map; stages beyond dilate instead of halving it.
        pointwise: Whether MLPs are 1×1 convolutions rather than linear layers.
        scaled: Whether each channel of a block's output is scaled by a parameter.
        responds: Whether MLPs normalise their responses over the image (ConvNeXt V2).
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    patch: int
    most_stride: int = 32
    pointwise: bool = True
    scaled: bool = True
    responds: bool = False


def patch_and_stride(task: ImageTask) -> tuple[int, int]:
    """The stem's patch, and the stride of the last map."""
    side = min(task.height, task.width)
    return (4, 32) if side >= 112 else (4, 16) if side >= 56 else (1, 8)


def refuses(task: ImageTask) -> str | None:
    side = min(task.height, task.width)
    return f"images of {side} pixels, of which three halvings leave nothing to pool" if side < _FEWEST_PIXELS else None


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    patch, stride = patch_and_stride(task)
    depths = (
        Parameter(f"depth{i}", 1, most, 1, f"blocks in stage {i}") for i, most in zip(STAGES, MOST_DEPTHS, strict=True)
    )
    widths = (
        Parameter(f"width{i}", 16, most, unit, f"channels of stage {i}")
        for i, most, unit in zip(STAGES, MOST_WIDTHS, UNITS, strict=True)
    )
    doc = f"side of all depthwise kernels; patches of {patch} px, total stride {stride}"
    return (*depths, *widths, Parameter("kernel", 3, 7, 2, doc))


def net(architecture: Architecture, task: ImageTask) -> Net:
    patch, stride = patch_and_stride(task)
    return Net(
        depths=tuple(architecture[f"depth{i}"] for i in STAGES),
        widths=tuple(architecture[f"width{i}"] for i in STAGES),
        kernels=(architecture["kernel"],) * len(STAGES),
        patch=patch,
        most_stride=max(8, stride),
    )


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    return Recipe("convnext_atto", arguments(net(architecture, task)))


def arguments(here: Net) -> dict[str, Any]:
    """The sizes as timm's ConvNeXt takes them."""
    return {
        "depths": list(here.depths),
        "dims": list(here.widths),
        "kernel_sizes": list(here.kernels),
        "patch_size": here.patch,
        "output_stride": here.most_stride,
        "conv_mlp": here.pointwise,
        # Stock layer scales begin at a millionth: blocks pass nothing on, and proxies would see nothing in them.
        **({"ls_init_value": 1.0} if here.scaled else {}),
    }


def count(architecture: Architecture, task: ImageTask) -> Count:
    return count_net(net(architecture, task), task)


def count_net(here: Net, task: ImageTask) -> Count:
    height, width, c_in = task.height // here.patch, task.width // here.patch, here.widths[0]
    stem = conv(task.in_chans, c_in, here.patch, height * width, bias=True, stride=here.patch)
    parts = [stem, layer_norm(c_in, height * width)]
    stride = here.patch
    for i, (depth, c_out, kernel) in enumerate(zip(here.depths, here.widths, here.kernels, strict=True)):
        halved = i > 0 or stride == 2
        shrinks = halved and stride < here.most_stride
        if halved or c_in != c_out:
            parts.append(layer_norm(c_in, height * width))
            if shrinks:
                height, width, stride = height // 2, width // 2, 2 * stride
            across = (2 if shrinks else 1) if halved else 1
            # A stage that dilates instead of halving keeps its 2×2 kernel.
            parts.append(conv(c_in, c_out, 2 if halved else 1, height * width, bias=True, stride=across))
        parts.append(_block(here, c_out, kernel, height * width) * depth)
        c_in = c_out
    return total(*parts, layer_norm(c_in, 1), linear(c_in, task.classes, 1))


def _block(here: Net, width: int, kernel: int, hw: int) -> Count:
    widen, narrow = (
        (conv(width, 4 * width, 1, hw, bias=True), conv(4 * width, width, 1, hw, bias=True))
        if here.pointwise
        else (linear(width, 4 * width, hw), linear(4 * width, width, hw))
    )
    return total(
        conv(width, width, kernel, hw, groups=width, bias=True),
        layer_norm(width, hw),
        widen,
        learned(8 * width if here.responds else 0),
        narrow,
        learned(width if here.scaled else 0),
    ).beside(width * hw)


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is a ConvNeXt of timm's with a patch stem."""
    from timm.layers.mlp import GlobalResponseNormMlp
    from timm.models.convnext import ConvNeXt
    from torch import nn

    if type(teacher) is not ConvNeXt:
        return None
    seen: Any = teacher
    if not isinstance(seen.stem[0], nn.Conv2d):
        return None
    stages = [stage.blocks for stage in seen.stages]
    first = stages[0][0]
    whole = Net(
        depths=tuple(len(blocks) for blocks in stages),
        widths=tuple(blocks[0].conv_dw.out_channels for blocks in stages),
        kernels=tuple(blocks[0].conv_dw.kernel_size[0] for blocks in stages),
        patch=seen.stem[0].stride[0],
        most_stride=max(8, seen.feature_info[-1]["reduction"]),
        pointwise=first.use_conv_mlp,
        scaled=first.gamma is not None,
        responds=isinstance(first.mlp, GlobalResponseNormMlp),
    )
    name = seen.pretrained_cfg["architecture"]

    def searched(task: ImageTask) -> tuple[Parameter, ...]:
        depths = (Parameter(f"depth{i}", 1, whole.depths[i - 1], 1, f"blocks in stage {i}") for i in STAGES)
        return (*depths, *(share(f"width{i}", whole.widths[i - 1], 8, f"channels of stage {i}") for i in STAGES))

    def part(architecture: Architecture) -> Net:
        depths = tuple(architecture[f"depth{i}"] for i in STAGES)
        widths = tuple(eighths(whole.widths[i - 1], architecture[f"width{i}"], 8) for i in STAGES)
        return replace(whole, depths=depths, widths=widths)

    def made(architecture: Architecture, task: ImageTask) -> Recipe:
        return Recipe(name, arguments(part(architecture)))

    def counted(architecture: Architecture, task: ImageTask) -> Count:
        return count_net(part(architecture), task)

    return Kin(searched, made, counted, "adamw", MANY_IMAGES)


spaces.add(
    "convnext",
    Space(
        name="convnext",
        doc="ConvNeXts, stock timm: depth and width of four stages, one depthwise kernel; from 24 px.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="adamw",
        learns_from=MANY_IMAGES,
        refuses=refuses,
    ),
)
