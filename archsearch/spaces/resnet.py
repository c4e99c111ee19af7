"""ResNets as timm builds them (He et al. 2016; ResNeXt: Xie et al. 2017): four stages of one kind of block.

Below 112 pixels the stock stem, a stride of four, leaves too little of a map. There the student is our `resnet_small`:
timm's class with a 3×3 stem and strides that follow the resolution. Above, it is timm's own `resnet18` or `resnet50`
with other sizes, so timm alone loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, batch_norm, conv, linear, moved, squeeze_excite, total
from archsearch.spaces.kin import Kin, eighths, share
from archsearch.spaces.space import Parameter, Recipe, Space, spaces
from archsearch.spaces.strides import halvings, shrunk, strides

if TYPE_CHECKING:
    from torch import nn

STAGES = (1, 2, 3, 4)
# ResNet-34's and -50's depths and widths.
MOST_DEPTHS, MOST_WIDTHS, UNIT = (3, 4, 6, 3), (64, 128, 256, 512), 16
BASIC, BOTTLENECK, GROUPED = range(3)
# Of ResNeXt-50: 32 groups, together twice as wide as a plain bottleneck.
_CARDINALITY, _BASE_WIDTH = 32, 4
_STOCK_STEM = ((64, 7, 2),)


@dataclass(frozen=True)
class Net:
    """A ResNet in numbers.

    Attributes:
        widths: Of each stage's 3×3 convolutions before they are grouped; bottlenecks put out four times as many.
        stem: Channels, kernel and stride of each convolution of the stem.
        pooled: Whether the stem ends in a max pooling of stride 2.
        pooled_shortcuts: Whether shortcuts between stages are pooled rather than strided (ResNet-D).
        excited: Whether squeeze-excite weighs what a block puts out.
    """

    bottleneck: bool
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem: tuple[tuple[int, int, int], ...]
    pooled: bool
    strides: tuple[int, ...]
    cardinality: int = 1
    base_width: int = 64
    pooled_shortcuts: bool = False
    excited: bool = False


def stock(task: ImageTask) -> bool:
    """Whether the stem of stock ResNets leaves a map worth pooling."""
    return halvings(task) == 5


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    stem = "stem 7×7 and pooling, total stride 32" if stock(task) else f"stem 3×3, strides {strides(task)}"
    kinds = f"0 basic, 1 bottleneck, 2 bottleneck of {_CARDINALITY} groups, twice as wide; {stem}"
    depths = (
        Parameter(f"depth{i}", 1, most, 1, f"blocks in stage {i}") for i, most in zip(STAGES, MOST_DEPTHS, strict=True)
    )
    widths = (
        Parameter(f"width{i}", UNIT, most, UNIT, f"channels of stage {i}; bottlenecks put out four times as many")
        for i, most in zip(STAGES, MOST_WIDTHS, strict=True)
    )
    return (Parameter("block", BASIC, GROUPED, 1, kinds, ordered=False), *depths, *widths)


def net(architecture: Architecture, task: ImageTask) -> Net:
    grouped = architecture["block"] == GROUPED
    widths = tuple(architecture[f"width{i}"] for i in STAGES)
    stem, *rest = strides(task)
    return Net(
        bottleneck=architecture["block"] != BASIC,
        depths=tuple(architecture[f"depth{i}"] for i in STAGES),
        widths=widths,
        stem=_STOCK_STEM if stock(task) else ((widths[0], 3, stem),),
        pooled=stock(task),
        strides=(1, 2, 2, 2) if stock(task) else tuple(rest),
        cardinality=_CARDINALITY if grouped else 1,
        base_width=_BASE_WIDTH if grouped else 64,
    )


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    here = net(architecture, task)
    if stock(task):
        return Recipe("resnet50" if here.bottleneck else "resnet18", arguments(here))
    ((stem, _, stride),) = here.stem
    small = {
        "block": "bottleneck" if here.bottleneck else "basic",
        "stem_chs": stem,
        "strides": [stride, *here.strides],
    }
    return Recipe("resnet_small", {**small, **arguments(here)}, stock=False)


def arguments(here: Net) -> dict[str, Any]:
    """The sizes as timm's ResNet takes them."""
    groups = {"cardinality": here.cardinality, "base_width": here.base_width} if here.bottleneck else {}
    # Stock ResNets begin with blocks that pass nothing on, in which proxies would see nothing.
    return {"layers": list(here.depths), "channels": list(here.widths), **groups, "zero_init_last": False}


def count(architecture: Architecture, task: ImageTask) -> Count:
    return count_net(net(architecture, task), task)


def count_net(here: Net, task: ImageTask) -> Count:
    height, width, c_in = task.height, task.width, task.in_chans
    parts = []
    for c_out, kernel, stride in here.stem:
        height, width = shrunk(height, stride), shrunk(width, stride)
        parts += [
            conv(c_in, c_out, kernel, height * width, stride=stride),
            batch_norm(c_out, height * width),
        ]
        c_in = c_out
    if here.pooled:
        height, width = shrunk(height, 2), shrunk(width, 2)
        parts.append(moved(c_in * height * width))
    for i, (depth, planes, stride) in enumerate(zip(here.depths, here.widths, here.strides, strict=True)):
        before = height * width
        height, width = shrunk(height, stride), shrunk(width, stride)
        hw = height * width
        c_out = 4 * planes if here.bottleneck else planes
        parts.append(_block(here, c_in, planes, stride, before, hw).beside(c_out * hw))
        if depth > 1:
            parts.append(_block(here, c_out, planes, 1, hw, hw).beside(c_out * hw) * (depth - 1))
        # Stages but the first are built to be strided, and keep their projection where they are not.
        if i or c_in != c_out:
            parts.append(_shortcut(here, c_in, c_out, stride, hw))
        c_in = c_out
    return total(*parts, linear(c_in, task.classes, 1))


def _block(here: Net, c_in: int, planes: int, stride: int, before: int, hw: int) -> Count:
    c_out = 4 * planes if here.bottleneck else planes
    parts = [squeeze_excite(c_out, _squeezed(c_out), hw)] if here.excited else []
    if not here.bottleneck:
        norm = batch_norm(planes, hw)
        return total(conv(c_in, planes, 3, hw, stride=stride), norm, conv(planes, planes, 3, hw), norm, *parts)
    inner = int(planes * (here.base_width / 64)) * here.cardinality
    return total(
        conv(c_in, inner, 1, before),
        batch_norm(inner, before),
        conv(inner, inner, 3, hw, groups=here.cardinality, stride=stride),
        batch_norm(inner, hw),
        conv(inner, c_out, 1, hw),
        batch_norm(c_out, hw),
        *parts,
    )


def _squeezed(channels: int) -> int:
    """Channels that timm's squeeze-excite leaves of so many: a sixteenth, in eights."""
    return max(8, int(channels / 16 + 4) // 8 * 8)


def _shortcut(here: Net, c_in: int, c_out: int, stride: int, hw: int) -> Count:
    if here.pooled_shortcuts and stride != 1:
        return total(moved(c_in * hw), conv(c_in, c_out, 1, hw), batch_norm(c_out, hw))
    return total(conv(c_in, c_out, 1, hw, stride=stride), batch_norm(c_out, hw))


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is a ResNet of timm's, or our own small one."""
    from timm.layers.squeeze_excite import SEModule
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet
    from torch import nn

    from archsearch.models.resnet_small import SmallResNet

    if type(teacher) not in (ResNet, SmallResNet):
        return None
    seen: Any = teacher
    stages: list[Any] = [getattr(seen, f"layer{i}", None) for i in STAGES]
    if not all(type(block) in (BasicBlock, Bottleneck) for stage in stages for block in stage or (None,)):
        return None  # of blocks with parts in other places, as selective kernels and split attention
    first = stages[0][0]
    bottleneck = type(first) is not BasicBlock
    widths = tuple(stage[0].conv3.out_channels // 4 if bottleneck else stage[0].conv2.out_channels for stage in stages)
    cardinality = first.conv2.groups if bottleneck else 1
    stem = [m for m in seen.conv1.modules() if isinstance(m, nn.Conv2d)]
    pools = [m for m in stages[1][0].modules() if isinstance(m, nn.AvgPool2d)]
    whole = Net(
        bottleneck=bottleneck,
        depths=tuple(len(stage) for stage in stages),
        widths=widths,
        stem=tuple((layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in stem),
        pooled=isinstance(seen.maxpool, nn.MaxPool2d),
        strides=tuple(stage[0].stride for stage in stages),
        cardinality=cardinality,
        base_width=64 * first.conv2.out_channels // (widths[0] * cardinality) if bottleneck else 64,
        pooled_shortcuts=bool(pools),
        excited=type(first.se) is SEModule,
    )
    name, own = seen.pretrained_cfg["architecture"], type(teacher) is SmallResNet
    # A group has a channel at least: of ResNeXt's four in 64, one in sixteen.
    unit = max(8, 64 // whole.base_width)

    def searched(task: ImageTask) -> tuple[Parameter, ...]:
        depths = (Parameter(f"depth{i}", 1, whole.depths[i - 1], 1, f"blocks in stage {i}") for i in STAGES)
        return (*depths, *(share(f"width{i}", whole.widths[i - 1], unit, f"channels of stage {i}") for i in STAGES))

    def part(architecture: Architecture) -> Net:
        depths = tuple(architecture[f"depth{i}"] for i in STAGES)
        widths = tuple(eighths(whole.widths[i - 1], architecture[f"width{i}"], unit) for i in STAGES)
        return replace(whole, depths=depths, widths=widths)

    def made(architecture: Architecture, task: ImageTask) -> Recipe:
        here = part(architecture)
        if not own:
            return Recipe(name, arguments(here))
        ((stem_chs, _, stride),) = here.stem
        small = {"block": "bottleneck" if bottleneck else "basic", "stem_chs": stem_chs}
        return Recipe(name, {**small, "strides": [stride, *here.strides], **arguments(here)}, stock=False)

    def counted(architecture: Architecture, task: ImageTask) -> Count:
        return count_net(part(architecture), task)

    def projected(task: ImageTask) -> tuple[Parameter, ...]:
        """A first stage as wide as the stem is added to it, and what was projected between them in the teacher is lost;
        so it is wider."""
        stem_chs, expansion = whole.stem[-1][0], 4 if bottleneck else 1

        def wider(p: Parameter) -> Parameter:
            return replace(p, low=next(v for v in p.values if expansion * eighths(widths[0], v, unit) > stem_chs))

        return tuple(wider(p) if p.name == "width1" else p for p in searched(task))

    whole_kin = Kin(searched, made, counted, "sgd")
    if (4 if bottleneck else 1) * widths[0] <= whole.stem[-1][0]:
        return whole_kin
    return replace(whole_kin, cut=lambda _: Kin(projected, made, counted, "sgd"))


spaces.add(
    "resnet",
    Space(
        name="resnet",
        doc="ResNets and ResNeXts: the kind of block, depth and width of four stages; stock timm from 112 px.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="sgd",
    ),
)
