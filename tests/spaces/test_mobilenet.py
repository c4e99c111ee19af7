from __future__ import annotations

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.spaces import spaces
from archsearch.spaces.mobilenet import Block, divisible

SPACE = spaces.get("mobilenet")


def task(side: int, classes: int = 10) -> ImageTask:
    return ImageTask(classes, 3, side, side, (0.5,) * 3, (0.25,) * 3)


def test_the_cost_by_hand() -> None:
    # 32×32: a stem of 16 channels at full size, maps of 32, 16, 8 and 4 pixels; one block each, squeeze-excite in two.
    architecture = {**SPACE.smallest(task(32)), "se2": 1}
    # Twice 16 channels inside, kernels of 3; squeezed to a quarter of 32.
    widen, depthwise, narrow, squeeze = 16 * 32, 32 * 9, 32 * 16, 2 * 32 * 8
    block = widen + 2 * 32 + depthwise + 2 * 32 + narrow + 2 * 16
    last, head = 16 * 96, 96 * 64
    found = SPACE.count(architecture, task(32))
    params = 27 * 16 + 2 * 16 + 4 * block + squeeze + 32 + 8 + last + 2 * 96 + head + 64 + 64 * 10 + 10
    macs = 1024 * (27 * 16 + widen + depthwise + narrow)
    for before, after in ((1024, 256), (256, 64), (64, 16)):
        macs += before * widen + after * (depthwise + narrow)
    assert found.params == params
    assert found.macs == macs + squeeze + 16 * last + head + 640
    assert found.layers == (1, 8 + 2 + 1 + 1, 0, 4, 1, 0)


def test_definitions_are_timms_own() -> None:
    from timm.models._efficientnet_builder import decode_arch_def

    block = Block("ir", 5, 2, 40, 3.0, 0.25, "re")
    assert block.definition() == "ir_r1_k5_s2_e3.0_c40_se0.25_nre"
    ((decoded,),) = decode_arch_def([[block.definition()]])
    assert (decoded["dw_kernel_size"], decoded["stride"], decoded["out_chs"], decoded["exp_ratio"]) == (5, 2, 40, 3.0)
    assert Block("ir", 3, 1, 16, skip=False).definition().endswith("_noskip")
    assert Block("cn", 1, 1, 96, skip=False).definition() == "cn_r1_k1_s1_e1.0_c96"


@pytest.mark.parametrize("channels", [3, 8, 11.9, 12, 13.3, 18, 20, 72.0, 88.5, 1000.1])
def test_channels_are_rounded_as_timm_rounds_them(channels: float) -> None:
    from timm.layers import make_divisible

    assert divisible(channels) == make_divisible(channels)


@pytest.mark.parametrize(("side", "stem", "last"), [(28, 1, 4), (32, 1, 4), (64, 2, 4), (224, 2, 7)])
def test_strides_follow_the_resolution(side: int, stem: int, last: int) -> None:
    here = task(side)
    model = SPACE.model(SPACE.smallest(here), here)
    assert (model.name, model.stock, model.args["stem_stride"]) == ("mobilenet_blocks", False, stem)
    student = SPACE.build(SPACE.smallest(here), here).eval()
    assert student.forward_features(torch.rand(1, 3, side, side)).shape == (1, 96, last, last)
    assert -(-side // student.feature_info[-1]["reduction"]) == last
