from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure
from archsearch.spaces import Cost, nasbench201, spaces

SPACE = spaces.get("nasbench201")
CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"


def test_a_cell_string_by_hand() -> None:
    architecture = nasbench201.parse(CELL)
    assert architecture == {"edge1": 4, "edge2": 0, "edge3": 2, "edge4": 1, "edge5": 3, "edge6": 0}
    assert nasbench201.cell_string(architecture) == CELL


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "is no cell"),
        (CELL[:-1], "is no cell"),
        (CELL + "+", "is no cell"),
        (CELL.replace("~1|+", "~0|+"), "is no cell"),
        (CELL.replace("|none~2", ""), "is no cell"),
        (CELL.replace("avg_pool_3x3", "max_pool_3x3"), "'max_pool_3x3' is none of none, skip_connect"),
    ],
)
def test_what_is_no_cell_string_is_refused_with_the_reason(cell: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        nasbench201.parse(cell)
    assert caught.value.field == "cell"
    assert reason in caught.value.detail


def test_the_bare_frame_by_hand(colour_task: ImageTask) -> None:
    """What is left when all edges are `none`: stem, two reductions, last norm, classifier."""
    stem, last, head = Cost(3 * 9 * 16 + 32, 3 * 9 * 16 * 32**2), Cost(128, 0), Cost(64 * 100 + 100, 64 * 100)
    first = 16 * 32 * 9 + 32 * 32 * 9 + 16 * 32
    second = 32 * 64 * 9 + 64 * 64 * 9 + 32 * 64
    params = stem.params + first + 2 * 64 + second + 2 * 128 + last.params + head.params
    macs = stem.macs + first * 16**2 + second * 8**2 + head.macs
    assert SPACE.cost(SPACE.smallest(colour_task), colour_task) == Cost(params, macs)


@pytest.mark.parametrize(("height", "width"), [(30, 33), (5, 1)])
def test_odd_sides_round_up_and_cost_what_torch_counts(colour_task: ImageTask, height: int, width: int) -> None:
    task, architecture = replace(colour_task, height=height, width=width), nasbench201.parse(CELL)
    assert SPACE.cost(architecture, task) == measure(SPACE, architecture, task)
    with torch.device("meta"):
        map_BCHW = SPACE.build(architecture, task).forward_features(torch.empty(2, 3, height, width))
    assert map_BCHW.shape == (2, 64, -(-height // 4), -(-width // 4))


@pytest.mark.shared
@pytest.mark.parametrize("classes", [10, 100])
def test_all_15625_cells_are_members_and_cost_what_the_table_says(
    shared: Path, colour_task: ImageTask, classes: int
) -> None:
    with gzip.open(shared / "nb201_accuracy.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    task = replace(colour_task, classes=classes)
    architectures = [nasbench201.parse(row["arch"]) for row in rows]
    assert [nasbench201.cell_string(architecture) for architecture in architectures] == [row["arch"] for row in rows]
    assert len({row["arch"] for row in rows}) == len(rows) == SPACE.cardinality(task) == 15_625
    for architecture in architectures[::25]:
        SPACE.check(architecture, task)
    costs = [SPACE.cost(architecture, task) for architecture in architectures]
    params_N, macs_N = (np.array([getattr(cost, name) for cost in costs]) for name in ("params", "macs"))
    mparams_N, mflops_N = (np.array([float(row[f"c{classes}_{n}"]) for row in rows]) for n in ("mparams", "mflops"))
    np.testing.assert_array_equal(np.round(mparams_N * 1e6), params_N)
    # Beside convolutions and classifier the table counts norms, activations and pooling; see the network's own test.
    operations = [nasbench201.operations(architecture) for architecture in architectures]
    convs_N, pools_N = (np.array([sum(k in name for name in ops) for ops in operations]) for k in ("conv", "pool"))
    np.testing.assert_array_equal(np.round(mflops_N * 1e6) - 160_832 - 430_080 * convs_N - 1_290_240 * pools_N, macs_N)
