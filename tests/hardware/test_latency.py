from __future__ import annotations

import torch
from torch import nn

from archsearch.data.shape import Shape
from archsearch.hardware.latency import Latency, describe_machine, measure_latency

NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))


def test_what_was_measured_is_said_with_it() -> None:
    found = measure_latency(NET, Shape((3, 8, 8)), "cpu-torch", batch=2, threads=1, min_repeats=5, budget_s=0.01)
    assert isinstance(found, Latency)
    assert (found.device, found.batch, found.threads) == ("cpu-torch", 2, 1)
    assert found.repeats >= 5
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms


def test_a_batch_takes_longer_than_an_image() -> None:
    one, many = (measure_latency(NET, Shape((3, 8, 8)), "cpu-torch", batch=batch, budget_s=0.05) for batch in (1, 512))
    assert one.median_ms < many.median_ms


def test_more_time_means_more_repeats() -> None:
    few, many = (
        measure_latency(NET, Shape((3, 8, 8)), "cpu-torch", min_repeats=3, budget_s=budget_s).repeats
        for budget_s in (0.0, 0.5)
    )
    assert few == 3 < many


def test_a_very_slow_network_is_not_waited_for() -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3 * 64, 2)

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            sum(range(300_000))
            return self.linear(x_BCHW.flatten(1))

    # Twenty budgets of no time at all are over at once; three blocks are always timed.
    assert measure_latency(Slow(), Shape((3, 8, 8)), "cpu-torch", min_repeats=1000, budget_s=0.0).repeats == 3


def test_the_machine_is_described() -> None:
    found = describe_machine()
    assert set(found) == {"processor", "system", "torch"}
    assert found["torch"] == torch.__version__
    assert all(found.values())
