"""How long one batch takes on a device, measured so that a busy machine hurts least."""

from __future__ import annotations

import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from archsearch.data.shape import Shape
from archsearch.errors import InvalidRequest
from archsearch.hardware.devices import Device, Runner, devices

if TYPE_CHECKING:
    from torch import nn

# Long enough for the clock, short enough that most blocks pass undisturbed.
_BLOCK_MS = 2.0
_STABLE = 0.05
_MOST_WARM_UPS = 20
# However slow the network is: so many blocks, or so many budgets of time.
_FEWEST_REPEATS = 3
_MOST_BUDGETS = 20


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one batch: median and quartiles over blocks of passes.

    On a processor with one thread they are that thread's own time, which other processes do not lengthen; with more,
    the time on the wall; on CUDA, what the device's own events say.

    Attributes:
        repeats: Blocks timed (count), warm-up apart.
        threads: Threads the device was allowed (CPU).
    """

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int
    device: str
    batch: int
    threads: int


def measure_latency(
    model: nn.Module,
    shape: Shape,
    device: str,
    *,
    batch: int = 1,
    threads: int = 1,
    min_repeats: int = 20,
    budget_s: float = 0.3,
) -> Latency:
    """Time `model` on random examples; the model and torch's threads are left as they were.

    Warms up until two blocks agree to 5 %, then times blocks of passes for `budget_s` seconds or `min_repeats` blocks,
    whichever is more (for a very slow network, twenty budgets and at least three blocks).

    Raises:
        InvalidRequest: No such device here.
    """
    found = require_device(device)
    with found.ready(model, shape.noise(batch), threads) as run:
        times_ms = _repeat(run, _warm_up(run, budget_s), min_repeats, budget_s)
    low_ms, median_ms, high_ms = np.quantile(times_ms, (0.25, 0.5, 0.75)).tolist()
    return Latency(median_ms, low_ms, high_ms, len(times_ms), device, batch, threads)


def require_device(name: str, *, field: str = "device") -> Device:
    """The device of that name; raises InvalidRequest where this machine has none."""
    device = devices.get(name, field=field)
    reason = device.available()
    if reason is not None:
        raise InvalidRequest(f"{name} is not here: {reason}", field=field)
    return device


def describe_machine() -> dict[str, str]:
    """What latencies depend on here: processor, system, and the version of torch."""
    import torch

    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    if torch.cuda.is_available():
        name = f"{name}, {torch.cuda.get_device_name()}"
    return {
        "processor": name[:200],
        "system": f"{platform.system()} {platform.machine()}"[:200],
        "torch": str(torch.__version__)[:200],
    }


def _warm_up(run: Runner, budget_s: float) -> float:
    """Run until two blocks agree; milliseconds of the last pass."""
    started = time.perf_counter()
    before_ms, now_ms = run(1), run(1)
    for _ in range(_MOST_WARM_UPS):
        if abs(now_ms - before_ms) <= _STABLE * before_ms or time.perf_counter() - started > budget_s:
            break
        before_ms, now_ms = now_ms, run(_passes(now_ms))
    return now_ms


def _repeat(run: Runner, about_ms: float, min_repeats: int, budget_s: float) -> list[float]:
    passes = _passes(about_ms)
    started, times_ms = time.perf_counter(), list[float]()
    while True:
        times_ms.append(run(passes))
        spent_s = time.perf_counter() - started
        enough = spent_s >= budget_s and len(times_ms) >= min_repeats
        if enough or (spent_s >= _MOST_BUDGETS * budget_s and len(times_ms) >= _FEWEST_REPEATS):
            return times_ms


def _passes(pass_ms: float) -> int:
    """Passes that fill a block."""
    return max(1, round(_BLOCK_MS / max(pass_ms, 1e-4)))
