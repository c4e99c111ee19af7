"""The space holds the published one: S1 of DisWOT, 64 ResNets for CIFAR-100."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.spaces import Cost, spaces

SPACE = spaces.get("resnet_cifar")


def s1(d1: int, d2: int, d3: int) -> dict[str, int]:
    return {"depth1": d1, "depth2": d2, "depth3": d3, "width1": 16, "width2": 32, "width3": 64}


def test_published_sizes(colour_task: ImageTask) -> None:
    # Parameters as the source's own tables print them: 278.32k and 259.89k.
    assert SPACE.cost(s1(3, 3, 3), colour_task).params == 278_324
    assert SPACE.cost(s1(7, 1, 3), colour_task).params == 259_892


@pytest.mark.shared
def test_all_64_of_s1_cost_what_the_table_says(shared: Path, colour_task: ImageTask) -> None:
    with (shared / "diswot_s1_kd_gt.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 64
    for row in rows:
        architecture = s1(int(row["d1"]), int(row["d2"]), int(row["d3"]))
        SPACE.check(architecture, colour_task)
        assert SPACE.cost(architecture, colour_task) == Cost(int(row["params"]), int(row["macs"])), row


def test_resnet_20_is_he_et_al_s() -> None:
    """0.27 M parameters and 20 weighted layers on CIFAR-10 (table 6); projections only where stages meet."""
    task = ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
    model = SPACE.build(s1(3, 3, 3), task)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    main = [name for name, shape in shapes.items() if len(shape) >= 2 and "downsample" not in name]
    assert len(main) == 20
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 0.27
    assert shapes["conv1.weight"] == (16, 3, 3, 3)
    assert shapes["layer2.0.conv1.weight"] == (32, 16, 3, 3)
    assert shapes["layer3.2.conv2.weight"] == (64, 64, 3, 3)
    assert shapes["fc.weight"] == (10, 64)
    projections = {name for name in shapes if "downsample.0" in name}
    assert projections == {"layer2.0.downsample.0.weight", "layer3.0.downsample.0.weight"}
    assert not any(name.endswith("conv1.bias") for name in shapes)


def test_stages_halve_the_map_and_odd_sides_round_up() -> None:
    model = SPACE.build(s1(1, 1, 1), ImageTask(10, 1, 9, 7, (0.5,), (0.25,)))
    assert model.forward_features(torch.rand(2, 1, 9, 7)).shape == (2, 64, 3, 2)
