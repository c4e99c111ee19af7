"""RegNets (Radosavovic et al. 2020): block widths that rise by a straight line, rounded to four stages.

The design space's own parameters are depth, w0, wa and wm. A line chosen freely often makes three stages or five, and
timm builds four only; so the slope wa is not searched itself but how far the line climbs: to w0 times wm to the power
of `climb`, which always makes four stages.

Below 112 pixels the student is our `regnet_small`, timm's class with strides that follow the resolution. Above, it is
timm's own `regnetx_002` (or `regnety_002`, with squeeze-excite) with other sizes, so timm alone loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, batch_norm, conv, linear, squeeze_excite, total
from archsearch.spaces.kin import Kin
from archsearch.spaces.space import Parameter, Recipe, Space, spaces
from archsearch.spaces.strides import halvings, shrunk, strides

if TYPE_CHECKING:
    from torch import nn

QUANTUM, STEM = 8, 32
SE_RATIO = 0.25
_STOCK_STRIDES = (2, 2, 2, 2, 2)


@dataclass(frozen=True)
class Net:
    """A RegNet in the design space's own numbers; squeeze-excite where `se_ratio` is not 0."""

    depth: int
    w0: int
    wa: float
    wm: float
    group_size: int
    se_ratio: float = 0.0
    stem: int = STEM
    strides: tuple[int, ...] = _STOCK_STRIDES


def stock(task: ImageTask) -> bool:
    """Whether the strides of stock RegNets leave a map worth pooling."""
    return halvings(task) == 5


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    return (
        Parameter("depth", 9, 22, 1, f"blocks of all four stages; strides {strides(task)}", ordered=False),
        Parameter("w0", 8, 48, 8, "channels of the first block"),
        Parameter("wm", 16, 25, 1, "channels of a stage over the one before, in tenths", ordered=False),
        Parameter("climb", 27, 33, 1, "stages the line of widths climbs, in tenths; wa follows", ordered=False),
        # Widths are rounded to whole groups, to fewer channels at times.
        Parameter("group", 1, 4, 1, "channels of one group, in eights", ordered=False),
        Parameter("se", 0, 1, 1, "1 with squeeze-excite"),
    )


def net(architecture: Architecture, task: ImageTask) -> Net:
    depth, w0, wm = architecture["depth"], architecture["w0"], architecture["wm"] / 10
    return Net(
        depth=depth,
        w0=w0,
        wa=slope(w0, wm, architecture["climb"] / 10, depth),
        wm=wm,
        group_size=8 * architecture["group"],
        se_ratio=SE_RATIO if architecture["se"] else 0.0,
        strides=_STOCK_STRIDES if stock(task) else strides(task),
    )


def slope(w0: int, wm: float, climb: float, depth: int) -> float:
    """The wa with which the last block is w0 · wm^climb wide before rounding."""
    return float(round(w0 * (wm**climb - 1) / (depth - 1), 2))


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    here = net(architecture, task)
    if stock(task):
        return Recipe("regnety_002" if here.se_ratio else "regnetx_002", arguments(here))
    return Recipe(
        "regnet_small", {**arguments(here), "se_ratio": here.se_ratio, "strides": list(here.strides)}, stock=False
    )


def arguments(here: Net) -> dict[str, Any]:
    """The sizes as timm's RegNet takes them."""
    sizes = {"depth": here.depth, "w0": here.w0, "wa": here.wa, "wm": here.wm, "group_size": here.group_size}
    # Stock RegNets begin with blocks that pass nothing on, in which proxies would see nothing.
    return {**sizes, "stem_width": here.stem, "zero_init_last": False}


@lru_cache(1 << 14)
def stages(depth: int, w0: int, wa: float, wm: float, group_size: int) -> tuple[tuple[int, int, int], ...]:
    """Width, depth and group size of each stage: timm's `generate_regnet`, in the same 32 bits."""
    line = np.arange(depth, dtype=np.float32) * np.float32(wa) + np.float32(w0)
    powers = np.round(np.log(line / np.float32(w0)) / np.float32(log(wm)))
    widths = np.round(np.float32(w0) * np.power(np.float32(wm), powers) / np.float32(QUANTUM)) * QUANTUM
    found, depths = np.unique(widths.astype(int), return_counts=True)
    groups = [min(group_size, int(width)) for width in found]
    return tuple(
        (int(round(width / group) * group), int(blocks), group)
        for width, blocks, group in zip(found, depths, groups, strict=True)
    )


def count(architecture: Architecture, task: ImageTask) -> Count:
    return count_net(net(architecture, task), task)


def count_net(here: Net, task: ImageTask) -> Count:
    stem, *rest = here.strides
    height, width, c_in = shrunk(task.height, stem), shrunk(task.width, stem), here.stem
    parts = [conv(task.in_chans, c_in, 3, height * width, stride=stem), batch_norm(c_in, height * width)]
    layout = stages(here.depth, here.w0, here.wa, here.wm, here.group_size)
    for (c_out, depth, group), stride in zip(layout, rest, strict=True):
        before = height * width
        height, width = shrunk(height, stride), shrunk(width, stride)
        hw = height * width
        parts.append(_block(c_in, c_out, group, here.se_ratio, stride, before, hw).beside(c_out * hw))
        parts += [conv(c_in, c_out, 1, hw, stride=stride), batch_norm(c_out, hw)]
        if depth > 1:
            block = _block(c_out, c_out, group, here.se_ratio, 1, hw, hw)
            parts.append(block.beside(c_out * hw) * (depth - 1))
        c_in = c_out
    return total(*parts, linear(c_in, task.classes, 1))


def _block(c_in: int, c_out: int, group: int, se_ratio: float, stride: int, before: int, hw: int) -> Count:
    parts = [
        conv(c_in, c_out, 1, before),
        batch_norm(c_out, before),
        conv(c_out, c_out, 3, hw, groups=c_out // group, stride=stride),
        batch_norm(c_out, hw),
        conv(c_out, c_out, 1, hw),
        batch_norm(c_out, hw),
    ]
    if se_ratio:
        parts.append(squeeze_excite(c_out, round(c_in * se_ratio), hw))
    return total(*parts)


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is one of timm's RegNets by name; its design is not to be read off its modules."""
    from timm.models.regnet import RegNet, model_cfgs

    seen: Any = teacher
    name = seen.pretrained_cfg["architecture"] if type(teacher) is RegNet else None
    if name not in model_cfgs:
        return None
    config = model_cfgs[name]
    if config.bottle_ratio != 1 or config.group_min_ratio or config.num_features or config.preact:
        return None
    whole = Net(config.depth, config.w0, config.wa, config.wm, config.group_size, config.se_ratio, config.stem_width)
    # The fewest eighths of which a multiple of the quantum remains; below, the fewest blocks that make four stages.
    narrowest = next(e for e in range(1, 9) if whole.w0 * e >= 8 * QUANTUM)

    def part(depth: int, width: int) -> Net:
        if (depth, width) == (whole.depth, 8):
            return whole
        w0 = max(QUANTUM, round(whole.w0 * width / (8 * QUANTUM)) * QUANTUM)
        wa = round(whole.wa * w0 / whole.w0 * (whole.depth - 1) / (depth - 1), 2)
        return replace(whole, depth=depth, w0=w0, wa=wa)

    def built(depth: int) -> bool:
        designs = (part(depth, width) for width in range(narrowest, 9))
        return all(len(stages(d.depth, d.w0, d.wa, d.wm, d.group_size)) == 4 for d in designs)

    shallowest = whole.depth
    while shallowest > 5 and built(shallowest - 1):
        shallowest -= 1

    def searched(task: ImageTask) -> tuple[Parameter, ...]:
        return (
            Parameter("depth", shallowest, whole.depth, 1, "blocks of all four stages", ordered=False),
            Parameter(
                "width", narrowest, 8, 1, f"w0 in eighths of the teacher's {whole.w0}; wa follows", ordered=False
            ),
        )

    def made(architecture: Architecture, task: ImageTask) -> Recipe:
        return Recipe(name, arguments(part(architecture["depth"], architecture["width"])))

    def counted(architecture: Architecture, task: ImageTask) -> Count:
        return count_net(part(architecture["depth"], architecture["width"]), task)

    return Kin(searched, made, counted, "sgd")


spaces.add(
    "regnet",
    Space(
        name="regnet",
        doc="RegNets: the design space's depth, widths and groups, with or without squeeze-excite; stock from 112 px.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="sgd",
    ),
)
