"""Our own trainings, through the public path: asking the teacher in every step, or its kept answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from archsearch.distill.progress import Progress
from archsearch.distill.train import train
from archsearch.domains.images.task import ImageTask
from archsearch.teachers import ImageTeacher, fingerprint
from benchmarks.distill_speed.images import one_epoch
from benchmarks.distill_speed.setting import Setting, student_of, teacher_of
from benchmarks.distill_speed.turns import Turn, synchronise


def ours(setting: Setting, *, cached: bool) -> Turn:
    """Turns of our own: each is a training from its start, through the public path, timed between its steps."""
    teacher = as_teacher(teacher_of(setting), setting.dataset.task)
    dataset = one_epoch(setting.dataset, (setting.warmup + setting.steps) * setting.batch_size)
    spec = setting.spec.model_copy(update={"view_cache": "auto" if cached else "off"})
    ends = (setting.warmup, setting.warmup + setting.steps)

    def once() -> tuple[float, Progress]:
        student = student_of(setting)
        with step_times(ends, setting.device) as times:
            *_, last = train(student, dataset, spec, teacher=teacher, cache=setting.home if cached else None)
        return times[1] - times[0], last

    def turn() -> float:
        seconds, last = once()
        if cached and last.cached != 1.0:
            share = "none" if last.cached is None else f"{last.cached:.0%}"
            sys.exit(
                f"{setting.pair}: the view cache had {share} of the answers; is there room in {setting.home.parent}?"
            )
        return seconds

    if cached:
        once()  # asks the teacher; every later training shows the same views
    return turn


def as_teacher(model: nn.Module, task: ImageTask) -> ImageTeacher:
    """A network as one of our teachers, normalised as the student is."""
    return ImageTeacher("teacher", model, task.classes, task.in_chans, task.mean, task.std, None, fingerprint(model))


@contextmanager
def step_times(ends: Sequence[int], device: str) -> Iterator[list[float]]:
    """The times in seconds when an optimizer's steps of these numbers were done, and the device with them."""
    times: list[float] = []
    done = 0

    def look(*_: Any) -> None:
        nonlocal done
        done += 1
        if done in ends:
            synchronise(device)
            times.append(time.perf_counter())

    hook = register_optimizer_step_post_hook(look)
    try:
        yield times
    finally:
        hook.remove()
