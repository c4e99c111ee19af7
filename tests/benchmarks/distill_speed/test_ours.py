from __future__ import annotations

import pytest
import torch

from archsearch.distill import view_cache
from benchmarks.distill_speed.ours import ours, step_times
from benchmarks.distill_speed.setting import Setting


def test_time_is_taken_when_the_steps_of_an_optimizer_are_done() -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(())
    with step_times((1, 3), "cpu") as times:
        counts = []
        for _ in range(4):
            optimizer.step()
            counts.append(len(times))
    assert counts == [1, 1, 2, 2]
    optimizer.step()
    assert len(times) == 2, "nobody looks any more"
    assert times[0] < times[1]


def test_a_cache_without_room_is_told_instead_of_measured(setting: Setting, monkeypatch) -> None:
    monkeypatch.setattr(view_cache, "_DISK_SHARE", 0.0)
    turn = ours(setting, cached=True)
    with pytest.raises(SystemExit, match="had none of the answers"):
        turn()
