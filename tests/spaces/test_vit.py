from __future__ import annotations

import pytest
import torch

from archsearch.data import Task
from archsearch.hardware import measure
from archsearch.spaces import Cost, spaces
from archsearch.spaces.vit import patch_size

SPACE = spaces.get("vit")


def task(height: int, width: int, in_chans: int = 3, classes: int = 10) -> Task:
    return Task(classes, in_chans, height, width, (0.5,) * in_chans, (0.25,) * in_chans)


@pytest.mark.parametrize(
    ("height", "width", "patch", "tokens"), [(8, 8, 1, 64), (32, 32, 4, 64), (224, 224, 28, 64), (4, 4, 1, 16)]
)
def test_the_patch_leaves_at_most_64_tokens_at_any_resolution(height: int, width: int, patch: int, tokens: int) -> None:
    here = task(height, width)
    model = SPACE.build(SPACE.smallest(here), here)
    assert patch_size(here) == patch
    assert model.patch_embed.num_patches == tokens


def test_the_cost_by_hand() -> None:
    # 8×8 gray: 64 tokens of one pixel. Width 32, one block, MLP of 32.
    embed, positions, norm = 1 * 32 + 32, 64 * 32, 2 * 32
    qkv, out, mlp, head = 32 * 96 + 96, 32 * 32 + 32, 2 * (32 * 32 + 32), 32 * 10 + 10
    params = embed + positions + (norm + qkv + out + norm + mlp) + norm + head
    macs = 64 * (32 + 32 * 96 + 32 * 32 + 2 * 32 * 32) + 2 * 64 * 64 * 32 + 320
    here = task(8, 8, in_chans=1)
    assert SPACE.cost({"depth": 1, "heads": 1, "mlp_ratio": 1}, here) == Cost(params, macs)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 36), (33, 33)])
def test_sides_the_patch_does_not_divide_still_build_and_cost_what_torch_counts(height: int, width: int) -> None:
    here, architecture = task(height, width), {"depth": 2, "heads": 2, "mlp_ratio": 3}
    assert SPACE.cost(architecture, here) == measure(SPACE, architecture, here)
    assert SPACE.build(architecture, here)(torch.rand(1, 3, height, width)).shape == (1, 10)


def test_the_student_is_stock_timms_model() -> None:
    model = SPACE.model({"depth": 1, "heads": 1, "mlp_ratio": 1}, task(8, 8))
    assert SPACE.stock
    assert model.name == "vit_tiny_patch16_224"
