from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import latency


@pytest.mark.shared
@pytest.mark.slow
def test_the_report_has_what_is_promised(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    latency.main(["--data", str(shared), "--only", "settings", "--seeds", "1", "--json", str(path)])
    report = json.loads(path.read_text())
    assert len(report["settings"]) == 27
    # Twenty cells tell more than counting does, on whatever cells they are.
    assert report["summary"]["spearman_mean"] > report["summary"]["macs_spearman_mean"]
