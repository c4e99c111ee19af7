from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure
from archsearch.spaces import Cost, pit, spaces

SPACE = spaces.get("pit")
ROW = {"base_dim": 24, "mlp_ratio": 2, "depth": [1, 6, 4], "num_heads": [2, 2, 8]}


@pytest.fixture
def large_task(colour_task: ImageTask) -> ImageTask:
    """The published resolution."""
    return replace(colour_task, height=224, width=224)


def test_a_row_by_hand(large_task: ImageTask) -> None:
    architecture = pit.from_table(ROW)
    expected = {"base": 24, "mlp_ratio": 2, "depth1": 1, "depth2": 6, "depth3": 4, "heads1": 1, "rise2": 0, "rise3": 2}
    assert architecture == expected
    SPACE.check(architecture, large_task)
    args = SPACE.model(architecture, large_task).args
    assert args["heads"] == [2, 2, 8]
    assert args["depth"] == [1, 6, 4]
    assert (args["patch_size"], args["stride"]) == (16, 8)
    assert SPACE.stock(large_task)


@pytest.mark.parametrize(
    ("first", "rise2", "rise3", "heads"), [(1, 0, 0, [2, 2, 2]), (1, 1, 1, [2, 4, 8]), (2, 2, 2, [4, 8, 8])]
)
def test_heads_rise_up_to_eight(first: int, rise2: int, rise3: int, heads: list[int]) -> None:
    architecture = {**pit.from_table(ROW), "heads1": first, "rise2": rise2, "rise3": rise3}
    assert pit.heads(architecture) == heads


def test_fewer_heads_in_a_later_stage_are_no_member(large_task: ImageTask) -> None:
    architecture = pit.from_table({**ROW, "num_heads": [4, 2, 8]})
    with pytest.raises(InvalidRequest, match="-1 is not in 0…2"):
        SPACE.check(architecture, large_task)


def test_the_cost_by_hand() -> None:
    # 8×8 gray, patches of 2 at a stride of 1: 7×7 of them, then 4×4, then 2×2, and a class token with each.
    architecture = {
        "base": 16,
        "mlp_ratio": 2,
        "depth1": 1,
        "depth2": 4,
        "depth3": 2,
        "heads1": 1,
        "rise2": 1,
        "rise3": 0,
    }
    embed, positions, token = 4 * 32 + 32, 49 * 32, 32
    params, macs = embed + positions + token, 4 * 32 * 49
    for width, tokens, depth in ((32, 50, 1), (64, 17, 4), (64, 5, 2)):
        weights = 4 * width * width + 2 * 2 * width * width
        biases = 4 * width + 3 * width
        params += depth * (weights + biases + 4 * width)
        macs += depth * (weights * tokens + 2 * tokens * tokens * width)
    # Between stages: 3×3 depthwise with bias for patches, a linear layer for the token.
    params += 64 * 10 + 32 * 64 + 64 + 64 * 10 + 64 * 64 + 64
    macs += 64 * 9 * 16 + 32 * 64 + 64 * 9 * 4 + 64 * 64
    params, macs = params + 2 * 64 + 64 * 10 + 10, macs + 64 * 10
    task = ImageTask(10, 1, 8, 8, (0.5,), (0.25,))
    assert SPACE.cost(architecture, task) == Cost(params, macs)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (33, 30), (28, 64)])
def test_any_side_costs_what_torch_counts(colour_task: ImageTask, height: int, width: int) -> None:
    task = replace(colour_task, height=height, width=width)
    for architecture in (pit.from_table(ROW), SPACE.smallest(task)):
        assert SPACE.cost(architecture, task) == measure(SPACE, architecture, task)


@pytest.mark.slow
@pytest.mark.shared
def test_every_row_of_the_table_becomes_the_network_it_says(shared: Path, large_task: ImageTask) -> None:
    rows = [row["arch"] for row in json.loads((shared / "autoprox_vit_kd_gt.json").read_text())["pit"]]
    assert len(rows) == 100
    different = set()
    for row in rows:
        architecture = pit.from_table(row)
        SPACE.check(architecture, large_task)
        with torch.device("meta"):
            model = SPACE.build(architecture, large_task)
        stages = list(model.transformers)
        widths = [row["base_dim"] * heads for heads in row["num_heads"]]
        assert [len(stage.blocks) for stage in stages] == row["depth"]
        assert [stage.blocks[0].attn.num_heads for stage in stages] == row["num_heads"]
        assert [stage.blocks[0].attn.qkv.in_features for stage in stages] == widths
        assert [s.blocks[0].mlp.fc1.out_features for s in stages] == [row["mlp_ratio"] * width for width in widths]
        assert model.pos_embed.shape == (1, widths[0], 27, 27)
        params = sum(parameter.numel() for parameter in model.parameters())
        assert params == SPACE.cost(architecture, large_task).params
        different.add(tuple(architecture.values()))
    assert len(different) == len({json.dumps(row) for row in rows})
