from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import spaces


@pytest.mark.slow
def test_the_report_has_what_is_promised(tmp_path: Path) -> None:
    path = tmp_path / "spaces.json"
    spaces.main(["--members", "1", "--sides", "32", "--families", "vit", "--json", str(path)])
    report = json.loads(path.read_text())
    promised = {"families": 1, "failures": 0, "params_mismatch": 0, "macs_max_rel_err": 0.0}
    assert report["summary"] == report["summary"] | promised
    assert report["rows"]
