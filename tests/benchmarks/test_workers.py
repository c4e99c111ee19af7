"""The benchmark of searches over several processes runs, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.workers import main


@pytest.mark.slow
def test_it_measures_on_both_clocks(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    main(["--candidates", "8", "--samplers", "random", "--workers", "2", "--real", "2", "--repeats", "1",
          "--json", str(file)])  # fmt: skip
    found = json.loads(file.read_text())
    (row,) = found["rows"]
    assert row["speed_up"] > 0
    assert (row["foreseen"], row["wasted"]) == (7 / 8, 0.0)
    assert found["real"]["workers"] == 2
