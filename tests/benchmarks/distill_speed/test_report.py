from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.distill_speed import protocol, report
from benchmarks.distill_speed.protocol import peers_of
from benchmarks.distill_speed.report import OURS, Ratios, Report, machine, row, show, summarise
from benchmarks.distill_speed.setting import Setting

CONTESTANTS = {"plain", "timm", "timm amp", "ours online", "ours cached", "floor"}


def test_ratios_are_medians_of_the_rounds_own(setting: Setting) -> None:
    times = {
        "plain": [6.0, 9.0, 30.0],
        "timm": [4.0, 8.0, 10.0],
        "torchdistill": [8.0, 4.0, 12.0],
        "ours online": [3.0, 3.0, 3.0],
        "ours cached": [2.0, 1.0, 2.0],
        "floor": [1.0, 1.0, 1.0],
    }
    one = row(replace(setting, steps=3), times)
    assert one.speeds["plain"].rounds == (4.0, 8 / 3, 0.8)
    assert one.speeds["plain"].images_per_s == 8 / 3
    assert one.speeds["plain"].step_ms == pytest.approx(3000)
    cached = one.ratios["ours cached"]
    assert (cached.vs_plain, cached.vs_best_peer, cached.over_floor) == (9, 4, 2)
    without = {name: times[name] for name in ("plain", *OURS, "floor")}
    alone = row(replace(setting, steps=3), without)
    assert alone.ratios["ours online"] == Ratios(3, None, 3)
    summary = summarise([one, alone])
    assert (summary["vs_plain"], summary["vs_best_peer"], summary["over_floor_online"]) == (9, 4, 3)


def test_what_is_not_installed_takes_no_part_and_is_told(setting: Setting, monkeypatch, capsys) -> None:
    for module in (protocol, report):
        monkeypatch.setattr(module, "installed", lambda package: None if package == "torchdistill" else "1.0")
    assert set(peers_of(setting)) == {"timm", "timm amp"}
    one = row(setting, {name: [1.0] for name in sorted(CONTESTANTS)})
    where = machine("cpu", "fp32")
    made = Report(summarise([one]), where, "noise", (one,))
    show(made, peers=True)
    assert "pip install torchdistill" in capsys.readouterr().out
    show(made, peers=False)
    assert "pip install torchdistill" not in capsys.readouterr().out
