"""MobileNetV3s (Howard et al. 2019): four stages of inverted residuals, with or without squeeze-excite.

The student is our `mobilenet_blocks`, timm's MobileNetV3 from block definitions given as arguments. Its strides follow
the resolution. Teachers may be EfficientNets too, whose students are our `efficientnet_blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, batch_norm, conv, linear, squeeze_excite, total
from archsearch.spaces.kin import EIGHTHS, Kin, Order, eighths, share
from archsearch.spaces.space import Parameter, Recipe, Space, spaces
from archsearch.spaces.strides import shrunk, strides

if TYPE_CHECKING:
    from torch import nn

STAGES = (1, 2, 3, 4)
MOST_DEPTHS, MOST_WIDTHS = (3, 4, 6, 4), (40, 80, 128, 192)
STEM, UNIT, SE_RATIO = 16, 8, 0.25
_LAST_EXPANSION = 6  # of the 1×1 convolution before pooling, as in MobileNetV3-Large (160 to 960)
_ACTIVATIONS = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "swish", "mi": "mish"}


@dataclass(frozen=True)
class Block:
    """One block of timm's definitions.

    Attributes:
        kind: ds depthwise separable, ir inverted residual, er fused inverted residual, cn convolution alone.
        se: Share that squeeze-excite leaves of the widened channels, in EfficientNet of the block's input; 0 for none.
        activation: timm's two letters; the network's own where empty.
        skip: Whether a block that keeps its shape has a shortcut; `cn` has none otherwise.
    """

    kind: str
    kernel: int
    stride: int
    width: int
    expansion: float = 1.0
    se: float = 0.0
    activation: str = ""
    skip: bool = True

    def definition(self) -> str:
        parts = [self.kind, "r1", f"k{self.kernel}", f"s{self.stride}", f"e{self.expansion}", f"c{self.width}"]
        parts += [f"se{self.se}"] if self.se else []
        parts += [f"n{self.activation}"] if self.activation else []
        if self.kind == "cn":
            return "_".join([*parts, "skip"] if self.skip else parts)
        return "_".join(parts if self.skip else [*parts, "noskip"])


@dataclass(frozen=True)
class Net:
    """A network in numbers.

    Attributes:
        head: Channels of the 1×1 convolution before the classifier; after pooling in MobileNetV3, with a bias, and
            before it in EfficientNet, with a batch norm.
        rest: Other arguments of the entry point.
    """

    efficientnet: bool
    stages: tuple[tuple[Block, ...], ...]
    stem: int
    stem_stride: int
    head: int
    rest: tuple[tuple[str, Any], ...] = ()


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    found = []
    for i, most_depth, most_width in zip(STAGES, MOST_DEPTHS, MOST_WIDTHS, strict=True):
        found += [
            Parameter(f"depth{i}", 1, most_depth, 1, f"blocks in stage {i}, of stride {strides(task)[i]}"),
            Parameter(f"width{i}", 16, most_width, UNIT, f"channels of stage {i}"),
            Parameter(f"expand{i}", 2, 6, 1, f"how many times wider stage {i}'s blocks are inside"),
            Parameter(f"kernel{i}", 3, 7, 2, f"side of stage {i}'s depthwise kernels"),
            Parameter(f"se{i}", 0, 1, 1, f"1 with squeeze-excite in stage {i}"),
        ]
    return (
        *found,
        Parameter("head", 64, 1280, 64, f"features that are classified; the stem's stride {strides(task)[0]}"),
    )


def net(architecture: Architecture, task: ImageTask) -> Net:
    stem, *rest = strides(task)
    stages = []
    for i, stride in zip(STAGES, rest, strict=True):
        first = Block(
            kind="ir",
            kernel=architecture[f"kernel{i}"],
            stride=stride,
            width=architecture[f"width{i}"],
            expansion=float(architecture[f"expand{i}"]),
            se=SE_RATIO if architecture[f"se{i}"] else 0.0,
        )
        stages.append((first, *[replace(first, stride=1)] * (architecture[f"depth{i}"] - 1)))
    last = Block("cn", 1, 1, _LAST_EXPANSION * architecture["width4"], skip=False)
    return Net(False, (*stages, (last,)), STEM, stem, architecture["head"])


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    return model_of(net(architecture, task))


def model_of(here: Net) -> Recipe:
    args = {
        "stages": [[block.definition() for block in stage] for stage in here.stages],
        "stem_size": here.stem,
        "stem_stride": here.stem_stride,
        "num_features": here.head,
        **dict(here.rest),
    }
    return Recipe("efficientnet_blocks" if here.efficientnet else "mobilenet_blocks", args, stock=False)


def count(architecture: Architecture, task: ImageTask) -> Count:
    return count_net(net(architecture, task), task)


def count_net(here: Net, task: ImageTask) -> Count:
    height, width, c_in = shrunk(task.height, here.stem_stride), shrunk(task.width, here.stem_stride), here.stem
    parts = [
        conv(task.in_chans, c_in, 3, height * width, stride=here.stem_stride),
        batch_norm(c_in, height * width),
    ]
    for stage in here.stages:
        for block in stage:
            before = height * width
            height, width = shrunk(height, block.stride), shrunk(width, block.stride)
            parts.append(_block(block, c_in, before, height * width, here.efficientnet))
            c_in = block.width
    if here.efficientnet:
        parts += [conv(c_in, here.head, 1, height * width), batch_norm(here.head, height * width)]
    else:
        parts.append(conv(c_in, here.head, 1, 1, bias=True))
    return total(*parts, linear(here.head, task.classes, 1))


def divisible(channels: float) -> int:
    """timm's `make_divisible` by eight: the nearest multiple that takes no more than a tenth away."""
    nearest = max(UNIT, int(channels + UNIT / 2) // UNIT * UNIT)
    return nearest + UNIT if nearest < 0.9 * channels else nearest


@lru_cache(1 << 14)
def _block(block: Block, c_in: int, before: int, hw: int, efficientnet: bool) -> Count:
    out = batch_norm(block.width, hw)
    if block.kind == "cn":
        return total(conv(c_in, block.width, block.kernel, hw, stride=block.stride), out)
    inner = c_in if block.kind == "ds" else divisible(c_in * block.expansion)
    match block.kind:
        case "ds":
            parts = []
        case "er":
            parts = [conv(c_in, inner, block.kernel, hw, stride=block.stride), batch_norm(inner, hw)]
        case _:
            parts = [conv(c_in, inner, 1, before), batch_norm(inner, before)]
    if block.kind != "er":
        depthwise = conv(inner, inner, block.kernel, hw, groups=inner, stride=block.stride)
        parts += [depthwise, batch_norm(inner, hw)]
    if block.se:
        expansion = 1.0 if block.kind == "ds" else block.expansion
        reduced = round(inner * (block.se / expansion)) if efficientnet else divisible(inner * block.se)
        parts.append(squeeze_excite(inner, reduced, hw))
    parts += [conv(inner, block.width, 1, hw), out]
    keeps = block.skip and block.stride == 1 and c_in == block.width
    return total(*parts).beside(block.width * hw if keeps else 0)


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is a MobileNetV3 or an EfficientNet of timm's, ours from definitions included."""
    from timm.layers.conv2d_same import Conv2dSame
    from timm.models.efficientnet import EfficientNet
    from timm.models.mobilenetv3 import MobileNetV3

    if type(teacher) not in (MobileNetV3, EfficientNet):
        return None
    seen: Any = teacher
    stages = tuple(tuple(_seen(block, type(teacher) is EfficientNet) for block in stage) for stage in seen.blocks)
    stem_activation = _activation(seen.bn1.act)
    if stem_activation is None or not all(block for stage in stages for block in stage):
        return None
    blocks = tuple(tuple(block for block in stage if block) for stage in stages)
    rest: dict[str, Any] = {"act_layer": _ACTIVATIONS[stem_activation], "bn_eps": seen.bn1.eps}
    if isinstance(seen.conv_stem, Conv2dSame):
        rest["pad_type"] = "same"
    stem, stem_stride = seen.conv_stem.out_channels, seen.conv_stem.stride[0]
    head = seen.conv_head.out_channels
    whole = Net(type(teacher) is EfficientNet, blocks, stem, stem_stride, head, tuple(rest.items()))
    skips = tuple(tuple(bool(getattr(block, "has_skip", False)) for block in stage) for stage in seen.blocks)
    return _kin(whole, skips)


def _kin(whole: Net, skips: tuple[tuple[bool, ...], ...], order: Order | None = None) -> Kin:
    """Networks of a whole one's kind.

    Args:
        skips: Which blocks of the whole have a shortcut.
        order: Where they are cut out of it. Blocks of a stage differ then, for theirs are the definitions of those
            that are kept; a shortcut is none where the whole has none; and stages at the end may be missing.
    """
    count = len(whole.stages)
    # A stage whose first block has a shortcut stays as wide as what is before it: there is none otherwise.
    follows = [order is not None and stage[0] for stage in skips]

    def searched(task: ImageTask) -> tuple[Parameter, ...]:
        found = []
        for i, stage in enumerate(whole.stages, 1):
            found.append(Parameter(f"depth{i}", 1, len(stage), 1, f"blocks in stage {i}"))
            found.append(
                Parameter(f"width{i}", EIGHTHS, EIGHTHS, 1, f"channels of stage {i}, as before it")
                if follows[i - 1]
                else share(f"width{i}", stage[0].width, UNIT, f"channels of stage {i}")
            )
        if order is not None and count > 2:
            found.append(Parameter("stages", -(-count // 2), count, 1, "stages before the head"))
        return (*found, share("head", whole.head, UNIT, "features that are classified"))

    def part(architecture: Architecture) -> Net:
        kept, before = [], whole.stem
        for i, stage in enumerate(whole.stages[: architecture.get("stages", count)], 1):
            depth, parts = architecture[f"depth{i}"], architecture[f"width{i}"]
            some = stage[:depth]
            if order is not None:
                rows = sorted(order[i - 1][:depth])
                some = tuple(replace(stage[row], skip=skips[i - 1][row]) for row in rows)
            width = before if follows[i - 1] else eighths(stage[0].width, parts, UNIT)
            kept.append(tuple(replace(block, width=width) for block in some))
            before = width
        return replace(whole, stages=tuple(kept), head=eighths(whole.head, architecture["head"], UNIT))

    def canonical(architecture: Architecture) -> Architecture:
        """Sizes of stages that are missing are the whole's."""
        missing = range(architecture.get("stages", count) + 1, count + 1)
        sizes = {f"depth{i}": len(whole.stages[i - 1]) for i in missing} | {f"width{i}": EIGHTHS for i in missing}
        return {**architecture, **{name: size for name, size in sizes.items() if name in architecture}}

    def made(architecture: Architecture, task: ImageTask) -> Recipe:
        return model_of(part(architecture))

    def counted(architecture: Architecture, task: ImageTask) -> Count:
        return count_net(part(architecture), task)

    return Kin(searched, made, counted, "sgd", cut=lambda order: _kin(whole, skips, order), canonical=canonical)


def _seen(block: Any, efficientnet: bool) -> Block | None:
    """A teacher's block as a definition; None where definitions have no word for it."""
    from timm.models._efficientnet_blocks import (
        ConvBnAct,
        DepthwiseSeparableConv,
        EdgeResidual,
        InvertedResidual,
        SqueezeExcite,
    )
    from torch import nn

    kinds: dict[type, tuple[str, str, str]] = {
        # kind, the strided convolution, the last one
        ConvBnAct: ("cn", "conv", "conv"),
        DepthwiseSeparableConv: ("ds", "conv_dw", "conv_pw"),
        InvertedResidual: ("ir", "conv_dw", "conv_pwl"),
        EdgeResidual: ("er", "conv_exp", "conv_pwl"),
    }
    activation = _activation(block.bn1.act) if type(block) in kinds else None
    if activation is None:
        return None
    kind, strided, last = kinds[type(block)]
    main, out = block.get_submodule(strided), block.get_submodule(last)
    if not isinstance(main, nn.Conv2d):  # kernels of several sizes at once
        return None
    first = block.conv_pw if kind == "ir" else main
    c_in, inner = first.in_channels, _inside(first, kind)
    se = 0.0
    if kind != "cn" and isinstance(block.se, SqueezeExcite):
        reduced = block.se.conv_reduce.out_channels
        se = reduced / c_in if efficientnet else reduced / inner
    keeps = main.stride[0] == 1 and c_in == out.out_channels
    return Block(
        kind=kind,
        kernel=main.kernel_size[0],
        stride=main.stride[0],
        width=out.out_channels,
        expansion=inner / c_in,
        se=se,
        activation=activation,
        skip=block.has_skip or (not keeps and kind != "cn"),
    )


def _inside(first: Any, kind: str) -> int:
    """Channels inside a block, of its first convolution."""
    inner: int = first.in_channels if kind in ("ds", "cn") else first.out_channels
    return inner


def _activation(module: nn.Module) -> str | None:
    from timm.layers.create_act import get_act_layer

    return next((name for name, of_timm in _ACTIVATIONS.items() if type(module) is get_act_layer(of_timm)), None)


spaces.add(
    "mobilenet",
    Space(
        name="mobilenet",
        doc="MobileNetV3s: depth, width, expansion, kernel and squeeze-excite of four stages, and the head's width.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="sgd",
    ),
)
