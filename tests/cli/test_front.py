from __future__ import annotations

import pytest

from archsearch.cli.display import show_front

FRONT = [
    {"number": 7, "space": "vit", "architecture": {"depth": 2}, "score": 1.5, "params": 1200, "macs": 3_400_000,
     "latency_ms": 0.51},
    {"number": 3, "space": "resnet_cifar", "architecture": {"depth1": 4}, "score": 2.25, "params": 56_000,
     "macs": 7_800_000, "latency_ms": 0.9,
     "measured": {"latency_ms": 0.95, "low_ms": 0.94, "high_ms": 0.99, "repeats": 20}},
]  # fmt: skip


@pytest.mark.parametrize("columns", [80, 140])
def test_a_front_is_readable_on_narrow_and_wide_terminals(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_front(FRONT, "latency_ms", 3)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    for said in ("vit depth=2", "1.2k", "3.4M", "~0.51 ms", "0.95 ms", "(0.94–0.99)", "2.250"):
        assert said in text
    assert ("█" in text) == (columns == 140)


def test_a_cost_that_is_shown_anyway_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_front(FRONT, "params", None)
    assert capsys.readouterr().out.count("1.2k") == 1
