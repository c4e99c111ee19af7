from __future__ import annotations

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.spaces import Cost, spaces
from archsearch.spaces.resnet import BASIC, BOTTLENECK, GROUPED

SPACE = spaces.get("resnet")
PUBLISHED = {
    "depth1": 3,
    "depth2": 4,
    "depth3": 6,
    "depth4": 3,
    "width1": 64,
    "width2": 128,
    "width3": 256,
    "width4": 512,
}


def task(side: int, classes: int = 1000) -> ImageTask:
    return ImageTask(classes, 3, side, side, (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("block", "params", "macs"),
    [
        (BASIC, 21_797_672, 3_663_761_408),  # ResNet-34: 21.8 M, 3.6 G
        (BOTTLENECK, 25_557_032, 4_089_184_256),  # ResNet-50: 25.6 M, 4.1 G
        (GROUPED, 25_028_904, 4_230_479_872),  # ResNeXt-50 32x4d: 25.0 M, 4.2 G
    ],
)
def test_published_sizes(block: int, params: int, macs: int) -> None:
    assert SPACE.cost({"block": block, **PUBLISHED}, task(224)) == Cost(params, macs)


def test_the_cost_by_hand() -> None:
    # 32×32: stem of 16 channels at full size, then maps of 32, 16, 8 and 4 pixels; one basic block in each stage.
    ones = {f"depth{i}": 1 for i in (1, 2, 3, 4)}
    architecture = {"block": BASIC, **ones, "width1": 16, "width2": 32, "width3": 32, "width4": 48}
    stem, first = 9 * 3 * 16, 2 * 9 * 16 * 16
    second = 9 * 16 * 32 + 9 * 32 * 32 + 16 * 32  # with its shortcut
    third = 2 * 9 * 32 * 32 + 32 * 32
    fourth = 9 * 32 * 48 + 9 * 48 * 48 + 32 * 48
    norms = 2 * (16 + 2 * 16 + 3 * 32 + 3 * 32 + 3 * 48)
    head = 48 * 10 + 10
    macs = 1024 * (stem + first) + 256 * second + 64 * third + 16 * fourth + 48 * 10
    found = SPACE.count(architecture, task(32, 10))
    assert found.params == stem + first + second + third + fourth + norms + head
    assert found.macs == macs
    assert found.layers == (9, 3, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("side", "name", "last"),
    [(28, "resnet_small", 4), (32, "resnet_small", 4), (64, "resnet_small", 4), (224, "resnet18", 7)],
)
def test_the_stem_follows_the_resolution(side: int, name: str, last: int) -> None:
    here = task(side, 10)
    model = SPACE.model(SPACE.smallest(here), here)
    assert (model.name, model.stock) == (name, side == 224)
    features = SPACE.build(SPACE.smallest(here), here).eval().forward_features(torch.rand(1, 3, side, side))
    assert features.shape == (1, 16, last, last)


def test_blocks_pass_something_on_before_training() -> None:
    for side in (32, 224):
        model = SPACE.build(SPACE.smallest(task(side, 10)), task(side, 10))
        assert model.layer1[0].bn2.weight.abs().min() > 0


def test_features_know_how_far_they_are_reduced() -> None:
    model = SPACE.build(SPACE.smallest(task(64, 10)), task(64, 10))
    assert [level["reduction"] for level in model.feature_info] == [2, 2, 4, 8, 16]
