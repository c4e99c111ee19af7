"""Milliseconds of a pass, by the clock that other processes disturb least."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

# Long enough for the clock, short enough that most blocks pass undisturbed.
_BLOCK_MS = 2.0
_FEWEST_ROUNDS = 5


def clock(run_once: Callable[[], object], passes: int, threads: int) -> float:
    """Milliseconds of one pass, from so many in a row.

    One thread does all the work itself, so its own time is the latency, and other processes have no share in it: on a
    machine that is shared, passes take up to three times as long by the clock on the wall. Several threads wait for
    one another, which only that clock sees.
    """
    own = threads == 1 and time.get_clock_info("thread_time").resolution < 1e-5
    now = time.thread_time if own else time.perf_counter
    started = now()
    for _ in range(passes):
        run_once()
    return 1000 * (now() - started) / passes


def interleaved(
    runs: Mapping[str, Callable[[], object]], *, threads: int = 1, budget_s: float = 0.3
) -> dict[str, list[float]]:
    """Milliseconds of a pass of each, block by block in turn: what disturbs one for a while disturbs all of them.

    Args:
        runs: What makes one pass, by name.
        threads: Threads each may use; they have to be set by whoever made the runs.
        budget_s: About how long all of it takes; five rounds are made however slow they are.
    """
    for run in runs.values():  # workspaces are made in the first passes
        clock(run, 2, threads)
    passes = {name: max(1, round(_BLOCK_MS / max(clock(run, 1, threads), 1e-4))) for name, run in runs.items()}
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    started, rounds = time.perf_counter(), 0
    while rounds < _FEWEST_ROUNDS or time.perf_counter() - started < budget_s:
        for name, run in runs.items():
            times_ms[name].append(clock(run, passes[name], threads))
        rounds += 1
    return times_ms
