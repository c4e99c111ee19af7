from __future__ import annotations

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.spaces import spaces

SPACE = spaces.get("convnext")


def task(side: int, classes: int = 10) -> ImageTask:
    return ImageTask(classes, 3, side, side, (0.5,) * 3, (0.25,) * 3)


def test_the_largest_is_convnext_t() -> None:
    assert SPACE.cost(SPACE.largest(task(224, 1000)), task(224, 1000)).params == 28_589_128  # 29 M in the paper


def test_the_cost_by_hand() -> None:
    # 32×32: patches of one pixel, maps of 32, 16, 8 and 4 pixels, one block each, 16 channels, kernels of 3.
    architecture = {**{f"depth{i}": 1 for i in (1, 2, 3, 4)}, **{f"width{i}": 16 for i in (1, 2, 3, 4)}, "kernel": 3}
    stem, depthwise, mlp, between, head = 3 * 16, 9 * 16, 2 * 16 * 64, 4 * 16 * 16, 16 * 10
    norm = 2 * 16
    block = depthwise + 16 + norm + mlp + 64 + 16 + 16  # biases, a norm, a scale
    found = SPACE.count(architecture, task(32))
    assert found.params == stem + 16 + norm + 4 * block + 3 * (norm + between + 16) + norm + head + 10
    pixels = 1024 + 256 + 64 + 16
    assert found.macs == 1024 * stem + pixels * (depthwise + mlp) + (256 + 64 + 16) * between + head
    # Stem (of one pixel, hence pointwise), three between stages; two pointwise in each block; the head.
    assert found.layers == (3, 1 + 8, 0, 4, 1, 0)


@pytest.mark.parametrize(("side", "patch", "last"), [(28, 1, 3), (32, 1, 4), (64, 4, 4), (224, 4, 7)])
def test_the_patch_follows_the_resolution(side: int, patch: int, last: int) -> None:
    here = task(side)
    model = SPACE.model(SPACE.smallest(here), here)
    assert (model.name, model.stock, model.args["patch_size"]) == ("convnext_atto", True, patch)
    features = SPACE.build(SPACE.smallest(here), here).eval().forward_features(torch.rand(1, 3, side, side))
    assert features.shape == (1, 16, last, last)


def test_blocks_pass_something_on_before_training() -> None:
    model = SPACE.build(SPACE.smallest(task(32)), task(32))
    assert model.stages[0].blocks[0].gamma.eq(1).all()


def test_tiny_images_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="does not take images of 8 pixels") as caught:
        SPACE.require(task(8))
    assert "mobilenet" in caught.value.detail
