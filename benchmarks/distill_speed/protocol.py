"""All contestants of a setting in turns, so that a machine others use is as noisy for one as for another."""

from __future__ import annotations

import sys

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.distill_speed.floor import floor
from benchmarks.distill_speed.ours import ours
from benchmarks.distill_speed.plain_loop import plain
from benchmarks.distill_speed.report import CACHED, FLOOR, OURS, PLAIN, Row, installed, row
from benchmarks.distill_speed.setting import Loop, Setting
from benchmarks.distill_speed.timm_loop import timm_loop
from benchmarks.distill_speed.torchdistill_loop import torchdistill_loop
from benchmarks.distill_speed.turns import turn_of


def measure(setting: Setting, rounds: int, *, peers: bool) -> Row:
    """All contestants, in turns."""
    loops = {PLAIN: plain(setting), **(peers_of(setting) if peers else {}), FLOOR: floor(setting)}
    turns = {name: turn_of(loop, setting) for name, loop in loops.items()}
    turns |= {name: ours(setting, cached=name == CACHED) for name in OURS}
    turns[FLOOR] = turns.pop(FLOOR)  # beside those it is compared with
    times: dict[str, list[float]] = {name: [] for name in turns}
    title, console = f"{setting.pair}, batch {setting.batch_size}", Console(stderr=True)
    try:
        for _ in track(range(rounds), title, console=console, disable=not sys.stderr.isatty()):
            for name, turn in turns.items():
                # RepDistiller, timm and torchdistill let cuDNN choose by trial; our trainings leave it as it is.
                torch.backends.cudnn.benchmark = name not in OURS
                times[name].append(turn())
    finally:
        torch.backends.cudnn.benchmark = False
        for loop in loops.values():
            loop.close()
        if setting.device == "cuda":  # or the next sizes would meet what was compiled for these
            torch.compiler.reset()
    return row(setting, times)


def peers_of(setting: Setting) -> dict[str, Loop]:
    """The tools others use, as far as they are there."""
    found = {"timm": timm_loop(setting), "timm amp": timm_loop(setting, amp=True)}
    if setting.device == "cuda":
        found["timm compiled"] = timm_loop(setting, amp=True, compiled=True)
    if installed("torchdistill"):
        found["torchdistill"] = torchdistill_loop(setting)
    return found
