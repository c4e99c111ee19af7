"""A contestant's turn: untimed steps, then timed ones, until the device is done with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

import torch

from benchmarks.distill_speed.setting import Loop, Setting

# The seconds its timed steps took.
Turn = Callable[[], float]


def turn_of(loop: Loop, setting: Setting) -> Turn:
    """Turns of a loop, which goes on where it was."""

    def turn() -> float:
        go_on(loop, setting.warmup, setting.device)
        started = time.perf_counter()
        go_on(loop, setting.steps, setting.device)
        return time.perf_counter() - started

    return turn


def go_on(loop: Loop, steps: int, device: str) -> None:
    """So many steps, until the device is done with them."""
    for _ in islice(loop, steps):
        pass
    synchronise(device)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
