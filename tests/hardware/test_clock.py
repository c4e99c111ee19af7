from __future__ import annotations

import time

import pytest

from archsearch.hardware.clock import clock, interleaved


def busy(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_one_thread_is_timed_by_its_own_clock_and_several_by_the_wall_s() -> None:
    # Sleep stands for another process that has the processor.
    assert clock(lambda: time.sleep(0.02), 3, threads=1) < 10 < clock(lambda: time.sleep(0.02), 3, threads=2)


def test_all_are_timed_in_turn() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: (order.append(name), busy(0.003)) for name in "ab"}
    times_ms = interleaved(runs, budget_s=0.0)
    assert [len(values) for values in times_ms.values()] == [5, 5], "however slow, five rounds"
    assert "".join(order[-10:]) == "ababababab", "a pass of 3 ms fills a block"
    assert all(values == pytest.approx([3] * 5, abs=1.5) for values in times_ms.values())


def test_short_passes_are_made_in_blocks() -> None:
    calls = 0

    def short() -> None:
        nonlocal calls
        calls += 1
        busy(0.0001)

    times_ms = interleaved({"short": short}, budget_s=0.0)
    assert calls > 5 * 5
    assert max(times_ms["short"]) < 2


def test_the_budget_is_kept() -> None:
    started = time.perf_counter()
    times_ms = interleaved({"a": lambda: busy(0.0005)}, budget_s=0.1)
    assert len(times_ms["a"]) > 5
    assert time.perf_counter() - started < 5
