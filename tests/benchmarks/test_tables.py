from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces import nasbench201, spaces
from benchmarks.tables import TABLES

pytestmark = pytest.mark.shared

SIZES = {
    "s1_c100": 64,
    "autoformer_a_c100": 100,
    "autoformer_a_flowers": 100,
    "pit_c100": 100,
    "pit_flowers": 100,
    "nb201_c10": 1000,
    "nb201_c100": 1000,
}
FIRST_CELLS = [
    "|skip_connect~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|skip_connect~1|nor_conv_1x1~2|",
    "|none~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|none~2|",
]


def read(shared: Path, name: str, *, full: bool = False) -> tuple[list[Architecture], np.ndarray]:
    return TABLES[name].read(shared, full=full)


def test_there_are_seven_tables() -> None:
    assert TABLES.keys() == SIZES.keys()


@pytest.mark.parametrize("name", SIZES)
def test_all_rows_are_members_of_their_space_with_an_accuracy_in_percent(shared: Path, name: str) -> None:
    architectures, accuracy_N = read(shared, name)
    assert len(architectures) == len(accuracy_N) == SIZES[name]
    table = TABLES[name]
    task = ImageTask(table.classes, 3, table.side, table.side, (0.5,) * 3, (0.25,) * 3)
    for architecture in architectures:
        spaces.get(table.space).check(architecture, task)
    assert accuracy_N.min() >= 1
    assert 50 < accuracy_N.max() < 100


def test_tables_of_the_same_networks_list_them_in_the_same_order(shared: Path) -> None:
    by_networks: dict[str, list[Architecture]] = {}
    for name, table in TABLES.items():
        architectures, _ = read(shared, name)
        assert by_networks.setdefault(table.networks, architectures) == architectures
    assert len(by_networks) == 5


def test_the_sample_of_cells_is_the_same_every_time(shared: Path) -> None:
    first, accuracy_N = read(shared, "nb201_c100")
    again, accuracy_again_N = read(shared, "nb201_c100")
    assert again == first
    assert accuracy_again_N.tolist() == accuracy_N.tolist()
    assert len({nasbench201.cell_string(architecture) for architecture in first}) == 1000
    assert [nasbench201.cell_string(architecture) for architecture in first[:2]] == FIRST_CELLS


def test_the_whole_benchmark_can_be_asked_for(shared: Path) -> None:
    architectures, accuracy_N = read(shared, "nb201_c10", full=True)
    with gzip.open(shared / "nb201_accuracy.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert [nasbench201.cell_string(architecture) for architecture in architectures] == [row["arch"] for row in rows]
    # The published optimum (Dong and Yang 2020).
    assert (len(rows), round(accuracy_N.max(), 2)) == (15_625, 94.37)


def test_accuracies_stay_with_their_networks(shared: Path) -> None:
    architectures, accuracy_N = read(shared, "s1_c100")
    with (shared / "diswot_s1_kd_gt.csv").open() as file:
        rows = {(int(row["d1"]), int(row["d2"]), int(row["d3"])): float(row["kd_acc"]) for row in csv.DictReader(file)}
    for architecture, accuracy in zip(architectures, accuracy_N, strict=True):
        assert rows[architecture["depth1"], architecture["depth2"], architecture["depth3"]] == accuracy
