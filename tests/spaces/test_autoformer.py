from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.hardware import measure
from archsearch.spaces import autoformer, spaces

SPACE = spaces.get("autoformer")
ROW = {"hidden_dim": 216, "depth": 12, "num_heads": [3, 4] * 6, "mlp_ratio": [4.0, 3.5, 3.5] * 4}


@pytest.fixture
def large_task(colour_task: ImageTask) -> ImageTask:
    """The published resolution."""
    return replace(colour_task, height=224, width=224)


def test_a_row_by_hand(large_task: ImageTask) -> None:
    architecture = autoformer.from_table(ROW)
    SPACE.check(architecture, large_task)
    assert (architecture["width"], architecture["depth"]) == (216, 12)
    assert [architecture[f"heads{i}"] for i in range(1, 13)] == ROW["num_heads"]
    assert [architecture[f"mlp{i}"] / 2 for i in range(1, 13)] == ROW["mlp_ratio"]
    args = SPACE.model(architecture, large_task).args
    assert args["num_heads"] == ROW["num_heads"]
    assert args["mlp_ratio"] == ROW["mlp_ratio"]
    assert (args["patch_size"], args["embed_dim"]) == (16, 216)


def test_what_is_said_of_layers_beyond_the_depth_is_ignored(large_task: ImageTask) -> None:
    architecture = autoformer.from_table(ROW)
    other = {**architecture, "heads13": 4, "mlp14": 8}
    assert SPACE.model(other, large_task) == SPACE.model(architecture, large_task)
    assert SPACE.cost(other, large_task) == SPACE.cost(architecture, large_task)


def test_heads_cost_nothing_and_mlps_do(large_task: ImageTask) -> None:
    architecture = autoformer.from_table(ROW)
    cost = SPACE.cost(architecture, large_task)
    assert SPACE.cost({**architecture, "heads1": 4}, large_task) == cost
    # Half a width more hidden units: weights in and out, and their biases.
    half = 216 // 2
    dearer = SPACE.cost({**architecture, "mlp2": 8}, large_task)
    assert (dearer.params - cost.params, dearer.macs - cost.macs) == (2 * 216 * half + half, 197 * 2 * 216 * half)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (33, 30), (14, 28)])
def test_any_side_costs_what_torch_counts(colour_task: ImageTask, height: int, width: int) -> None:
    task = replace(colour_task, height=height, width=width)
    architecture = autoformer.from_table(ROW)
    assert SPACE.cost(architecture, task) == measure(SPACE, architecture, task)


@pytest.mark.shared
def test_every_row_of_the_table_becomes_the_network_it_says(shared: Path, large_task: ImageTask) -> None:
    rows = [row["arch"] for row in json.loads((shared / "autoprox_vit_kd_gt.json").read_text())["autoformer_a"]]
    assert len(rows) == 100
    different = set()
    for row in rows:
        architecture = autoformer.from_table(row)
        SPACE.check(architecture, large_task)
        student = SPACE.model(architecture, large_task)
        with torch.device("meta"):
            model = timm.create_model(student.name, num_classes=100, **student.args, weight_init="skip")
        width = row["hidden_dim"]
        assert model.embed_dim == width
        assert model.patch_embed.num_patches == 14 * 14
        assert len(model.blocks) == row["depth"] == len(row["num_heads"]) == len(row["mlp_ratio"])
        assert [block.attn.num_heads for block in model.blocks] == row["num_heads"]
        assert [block.mlp.fc1.out_features for block in model.blocks] == [int(width * r) for r in row["mlp_ratio"]]
        params = sum(parameter.numel() for parameter in model.parameters())
        assert params == SPACE.cost(architecture, large_task).params
        different.add(tuple(architecture.values()))
    assert len(different) == len({json.dumps(row) for row in rows})
