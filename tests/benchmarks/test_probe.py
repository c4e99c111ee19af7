"""Teachers of other classes: the table of them."""

from __future__ import annotations

import pytest

from benchmarks.probe import ARMS, Run, rows


def test_gains_are_over_the_labels_alone() -> None:
    runs = [
        Run(arm, seed, 10, None, 40.0 + 5 * place + seed, 1.0) for place, arm in enumerate(ARMS) for seed in range(2)
    ]
    found = rows(runs)
    assert [row["gain"] for row in found] == [5.0 * place for place in range(len(ARMS))]
    assert (found[0]["mean"], found[0]["seeds"], found[0]["sd"]) == (40.5, 2, pytest.approx(2**-0.5))
