"""What the benchmark of searches stands on: which cells are the same, and how a ratio is read off two curves."""

from __future__ import annotations

import pytest

from archsearch.spaces import nasbench201
from benchmarks.cells import all_cells, computed, read
from benchmarks.search import ratio, summary


def cell(*operations: str) -> dict[str, int]:
    names = {"0": "none", "s": "skip_connect", "p": "avg_pool_3x3", "1": "nor_conv_1x1", "3": "nor_conv_3x3"}
    return {f"edge{i}": nasbench201.OPERATIONS.index(names[name]) for i, name in enumerate(operations, 1)}


# Edges: 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.
def test_cells_that_compute_the_same_are_one_kind() -> None:
    by_way_of_1 = computed(cell("3", "0", "0", "0", "s", "0"))
    assert by_way_of_1 == computed(cell("0", "3", "0", "0", "0", "s")) == computed(cell("0", "0", "0", "3", "0", "0"))
    # What nothing reaches, or what reaches nothing, makes no difference.
    assert by_way_of_1 == computed(cell("3", "p", "0", "0", "s", "0"))
    assert computed(cell("0", "0", "3", "0", "1", "0")) == computed(cell("0", "0", "0", "0", "0", "0"))


def test_one_convolution_used_twice_is_not_two() -> None:
    shared = computed(cell("3", "0", "s", "0", "s", "s"))
    twins = computed(cell("3", "0", "0", "3", "s", "0"))
    assert shared != twins
    # Two of the same input stay two wherever they are.
    assert twins == computed(cell("0", "3", "0", "3", "0", "s")) == computed(cell("3", "3", "0", "0", "s", "s"))


def test_there_are_fewer_kinds_than_cells() -> None:
    cells = all_cells()
    assert len(cells) == 15_625
    assert len({computed(architecture) for architecture in cells}) == 5_260


def test_half_a_line_is_forgotten(tmp_path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("a,1.5\nb,-inf\nc,2")
    assert read(path) == {"a": 1.5, "b": float("-inf")}
    assert path.read_text() == "a,1.5\nb,-inf\n"


def test_the_ratio_by_hand() -> None:
    reference = [3.0, 2.0, 1.0, 1.0]
    assert ratio(reference, reference) == 1
    assert ratio([1.5, 1.0, 0.5, 0.5], reference) == pytest.approx(2 / 3)
    assert ratio([3.0, 3.0, 2.0, 2.0], reference) is None


def test_the_summary_names_both_regrets() -> None:
    ours = {"tpe": {"accuracy_ratio": 0.4, "score_ratio": 0.3}}
    assert summary({"unlimited": ours, "latency": {}}) == {
        "scored_ratio_vs_evolution": 0.4,
        "scored_ratio_vs_evolution_score": 0.3,
    }
