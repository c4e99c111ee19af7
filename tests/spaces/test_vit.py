from __future__ import annotations

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.hardware import measure
from archsearch.spaces import Cost, spaces
from archsearch.spaces.vit import patch_sizes

SPACE = spaces.get("vit")


def task(height: int, width: int, in_chans: int = 3, classes: int = 10) -> ImageTask:
    return ImageTask(classes, in_chans, height, width, (0.5,) * in_chans, (0.25,) * in_chans)


@pytest.mark.parametrize(
    ("side", "patches", "tokens"),
    [
        (4, [1], [16]),
        (8, [1], [64]),
        (28, [2, 4], [196, 49]),
        (32, [2, 4], [256, 64]),
        (64, [4, 8], [256, 64]),
        (224, [16, 32], [196, 49]),
    ],
)
def test_patches_follow_the_resolution(side: int, patches: list[int], tokens: list[int]) -> None:
    here = task(side, side)
    assert list(patch_sizes(here)) == patches
    models = [SPACE.build({**SPACE.smallest(here), "patch": patch}, here) for patch in patches]
    assert [model.patch_embed.num_patches for model in models] == tokens


def test_the_cost_by_hand() -> None:
    # 8×8 gray: 64 tokens of one pixel. Width 32, one block, MLP of 32.
    embed, positions, norm = 1 * 32 + 32, 64 * 32, 2 * 32
    qkv, out, mlp, head = 32 * 96 + 96, 32 * 32 + 32, 2 * (32 * 32 + 32), 32 * 10 + 10
    params = embed + positions + (norm + qkv + out + norm + mlp) + norm + head
    macs = 64 * (32 + 32 * 96 + 32 * 32 + 2 * 32 * 32) + 2 * 64 * 64 * 32 + 320
    here = task(8, 8, in_chans=1)
    assert SPACE.cost({"patch": 1, "depth": 1, "heads": 1, "mlp_ratio": 1}, here) == Cost(params, macs)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 36), (33, 33)])
def test_sides_the_patch_does_not_divide_still_build_and_cost_what_torch_counts(height: int, width: int) -> None:
    here, architecture = task(height, width), {"patch": 2, "depth": 2, "heads": 2, "mlp_ratio": 3}
    assert SPACE.cost(architecture, here) == measure(SPACE, architecture, here)
    assert SPACE.build(architecture, here)(torch.rand(1, 3, height, width)).shape == (1, 10)


def test_the_student_is_stock_timms_model() -> None:
    model = SPACE.model({"patch": 1, "depth": 1, "heads": 1, "mlp_ratio": 1}, task(8, 8))
    assert model.stock
    assert model.name == "vit_tiny_patch16_224"
