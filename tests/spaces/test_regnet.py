from __future__ import annotations

import random
from itertools import product

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.hardware import measure
from archsearch.spaces import spaces
from archsearch.spaces.regnet import Net, count_net, slope, stages

SPACE = spaces.get("regnet")
SEARCHED = ("depth", "w0", "wm", "climb", "group")


def task(side: int, classes: int = 10) -> ImageTask:
    return ImageTask(classes, 3, side, side, (0.5,) * 3, (0.25,) * 3)


def test_every_design_has_four_stages() -> None:
    values = {p.name: p.values for p in SPACE.parameters(task(32))}
    for depth, w0, wm, climb in product(*(values[name] for name in SEARCHED[:4])):
        assert len(stages(depth, w0, slope(w0, wm / 10, climb / 10, depth), wm / 10, 8)) == 4


def test_stages_are_timms() -> None:
    from timm.models.regnet import adjust_widths_groups_comp, generate_regnet

    values = {p.name: p.values for p in SPACE.parameters(task(32))}
    rng = random.Random(0)
    for _ in range(300):
        depth, w0, wm, climb, group = (rng.choice(values[name]) for name in SEARCHED)
        wa = slope(w0, wm / 10, climb / 10, depth)
        widths, number, groups = generate_regnet(wa, w0, wm / 10, depth, 8 * group)
        each, depths = torch.unique(torch.tensor(widths), return_counts=True)
        rounded, groups = adjust_widths_groups_comp(each.tolist(), [1.0] * number, groups)
        assert stages(depth, w0, wa, wm / 10, 8 * group) == tuple(zip(rounded, depths.tolist(), groups, strict=True))


def test_the_cost_by_hand() -> None:
    # RegNetX-200MF (table 7): 24, 56, 152 and 368 channels, 1, 1, 4 and 7 blocks, groups of 8; 2.7 M, 0.2 G.
    layout = ((24, 1), (56, 1), (152, 4), (368, 7))
    assert stages(13, 24, 36.44, 2.49, 8) == tuple((width, depth, 8) for width, depth in layout)
    params, macs, c_in, side = 27 * 32 + 2 * 32, 112 * 112 * 27 * 32, 32, 112
    for width, depth in layout:
        grouped = width * 8 * 9
        half = (side // 2) ** 2
        params += c_in * width + grouped + width * width + c_in * width + 4 * 2 * width
        macs += side * side * c_in * width + half * (grouped + width * width + c_in * width)
        params += (depth - 1) * (2 * width * width + grouped + 3 * 2 * width)
        macs += (depth - 1) * half * (2 * width * width + grouped)
        c_in, side = width, side // 2
    found = count_net(Net(13, 24, 36.44, 2.49, 8), task(224, 1000))
    assert (found.params, found.macs) == (params + 368 * 1000 + 1000, macs + 368 * 1000)
    assert found.params == 2_684_792


@pytest.mark.parametrize(
    ("side", "se", "name", "last"),
    [
        (28, 0, "regnet_small", 4),
        (32, 1, "regnet_small", 4),
        (64, 0, "regnet_small", 4),
        (224, 0, "regnetx_002", 7),
        (224, 1, "regnety_002", 7),
    ],
)
def test_strides_follow_the_resolution(side: int, se: int, name: str, last: int) -> None:
    here, architecture = task(side), {**SPACE.smallest(task(side)), "se": se}
    model = SPACE.model(architecture, here)
    assert (model.name, model.stock) == (name, side == 224)
    features = SPACE.build(architecture, here).eval().forward_features(torch.rand(1, 3, side, side))
    assert features.shape[2:] == (last, last)


def test_rounding_to_groups_and_squeezed_channels_are_counted_as_timm_builds_them() -> None:
    # First widths of 40 become 32, as many as the stem has: the shortcut of stride 1 stays a projection.
    architecture = {"depth": 9, "w0": 40, "wm": 20, "climb": 27, "group": 4, "se": 1}
    assert SPACE.cost(architecture, task(28)) == measure(SPACE, architecture, task(28))
