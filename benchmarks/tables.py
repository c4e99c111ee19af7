"""The tables of published accuracies scores are judged on: which networks, how well they did, and on which images.

A table's students are scored on its own images where `../shared/data` holds them, and on CIFAR-100's otherwise.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.request import Architecture
from archsearch.spaces import autoformer, nasbench201, pit

# NAS-Bench-201 has 15,625 cells; a thousand are drawn, always the same.
SAMPLE = 1000
SAMPLE_SEED = 201


@dataclass(frozen=True)
class Table:
    """A table of accuracies.

    Attributes:
        space: Space the networks belong to.
        networks: The same text for two tables says that their networks, images and scores are the same.
        classes: Of the images used, 10 or 100.
        side: Pixels the images are resized to.
        note: What the reader of its figures has to know.
    """

    name: str
    file: str
    space: str
    networks: str
    classes: int
    side: int
    rows: Callable[[Path, bool], Iterator[tuple[Architecture, float]]]
    note: str = ""

    def read(self, folder: Path, *, full: bool) -> tuple[list[Architecture], npt.NDArray[np.float64]]:
        """Architectures, and the accuracy of each in percent."""
        found = list(self.rows(folder / self.file, full))
        return [architecture for architecture, _ in found], np.array([accuracy for _, accuracy in found])


def _s1(path: Path, full: bool) -> Iterator[tuple[Architecture, float]]:
    with path.open() as file:
        for row in csv.DictReader(file):
            depths = {f"depth{i}": int(row[f"d{i}"]) for i in (1, 2, 3)}
            yield {**depths, "width1": 16, "width2": 32, "width3": 64}, float(row["kd_acc"])


def _vit(
    space: str, accuracy: str, convert: Callable[[Any], Architecture]
) -> Callable[[Path, bool], Iterator[tuple[Architecture, float]]]:
    def rows(path: Path, full: bool) -> Iterator[tuple[Architecture, float]]:
        for row in json.loads(path.read_text())[space]:
            yield convert(row["arch"]), float(row[accuracy])

    return rows


def _nb201(accuracy: str) -> Callable[[Path, bool], Iterator[tuple[Architecture, float]]]:
    def rows(path: Path, full: bool) -> Iterator[tuple[Architecture, float]]:
        with gzip.open(path, "rt") as file:
            table = list(csv.DictReader(file))
        chosen = range(len(table))
        if not full:
            chosen = np.sort(np.random.default_rng(SAMPLE_SEED).permutation(len(table))[:SAMPLE])
        for i in chosen:
            yield nasbench201.parse(table[i]["arch"]), float(table[i][accuracy])

    return rows


FLOWERS = "Flowers' own images are not there: scored on CIFAR-100's"
VIT = "autoprox_vit_kd_gt.json"
CELLS = "nb201_accuracy.csv.gz"
TABLES = {
    table.name: table
    for table in (
        Table("s1_c100", "diswot_s1_kd_gt.csv", "resnet_cifar", "s1", 100, 32, _s1),
        Table(
            "autoformer_a_c100",
            VIT,
            "autoformer",
            "af",
            100,
            224,
            _vit("autoformer_a", "c100_kd_acc", autoformer.from_table),
        ),
        Table(
            "autoformer_a_flowers",
            VIT,
            "autoformer",
            "af",
            100,
            224,
            _vit("autoformer_a", "flower_kd_acc", autoformer.from_table),
            FLOWERS,
        ),
        Table("pit_c100", VIT, "pit", "pit", 100, 224, _vit("pit", "c100_kd_acc", pit.from_table)),
        Table("pit_flowers", VIT, "pit", "pit", 100, 224, _vit("pit", "flower_kd_acc", pit.from_table), FLOWERS),
        Table(
            "nb201_c10", CELLS, "nasbench201", "nb201-10", 10, 32, _nb201("c10_test"), "accuracy without distillation"
        ),
        Table(
            "nb201_c100",
            CELLS,
            "nasbench201",
            "nb201-100",
            100,
            32,
            _nb201("c100_test"),
            "accuracy without distillation",
        ),
    )
}
