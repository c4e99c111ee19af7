"""How long a training's step takes in every precision the device computes in: timed on the training's own networks."""

# B batch

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from archsearch.data.batches import Alive, free_memory
from archsearch.data.shape import laid_out
from archsearch.data.task import Dataset
from archsearch.device import kind
from archsearch.distill.amount import amount
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch
from archsearch.distill.room import affordable
from archsearch.distill.teacher_source import Online, asked_once
from archsearch.hardware.clock import clock
from archsearch.precision import Computed, resolve, training_cast
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher

if TYPE_CHECKING:
    from torch import nn

    from archsearch.distill.learner import Side
    from archsearch.distill.loss import Outputs

Seconds = Mapping[Computed, float]
# Of each precision, in turns. A compiled network is compiled in its first steps.
WARM_UPS, ROUNDS = 2, 5


@dataclass(frozen=True)
class Training:
    """What is to be trained: the arguments of `train`, and where.

    Attributes:
        cache: Folder of what outlives a training.
    """

    student: nn.Module
    dataset: Dataset
    spec: DistillSpec
    teacher: Teacher | None
    device: str
    group: Group
    cache: Path | None
    alive: Alive

    @property
    def examples(self) -> int:
        """Of a step, in one process, as it is asked for."""
        own = amount(self.spec).batch_size // self.group.size
        return min(own, self.spec.micro_batch or own)


def candidates(device: str) -> tuple[Computed, ...]:
    """What a device computes in, the most exact first."""
    half: tuple[Computed, ...] = ("bf16",) if resolve("auto", device) == "bf16" else ()
    return ("fp32", *half, "fp16") if kind(device) == "cuda" else ("fp32", *half)


def step_seconds(training: Training) -> Seconds:
    """Median seconds of forward and backward pass in each precision, with the teacher's where it looks at every batch.

    Timed in turns on a copy of the student and the data's first examples, as many as are computed at a time: weights,
    running statistics and random numbers are left as they are. Empty where not even one example fits into memory.
    """
    import torch

    gpus = [torch.device(training.device)] if kind(training.device) == "cuda" else []
    with torch.random.fork_rng(devices=gpus), ExitStack() as stack:
        side = _side(training, stack)
        task, own = training.dataset.task, training.examples
        size = affordable(training.spec, own, side.learner.student, side, task, training.device)
        while size:
            with suppress(torch.OutOfMemoryError):
                return _medians(training, side, size)
            free_memory()  # out here, where the error no longer holds the graph that filled the memory
            size //= 2
    return {}


def _side(training: Training, stack: ExitStack) -> Side:
    """Student and teacher as they are trained; the student is a copy, and answers are neither looked up nor kept."""
    from archsearch.distill.learner import prepare

    stack.callback(free_memory)
    return prepare(
        copy.deepcopy(training.student).train(),
        training.dataset,
        training.spec.model_copy(update={"view_cache": "off"}),
        training.teacher,
        device=training.device,
        cache=None,
        stack=stack,
        alive=training.alive,
    )


def _medians(training: Training, side: Side, size: int) -> Seconds:
    import torch

    threads = 0 if kind(training.device) == "cuda" else torch.get_num_threads()
    batch = _batch(training, size)
    runs = {name: _run(training, side, batch, name) for name in candidates(training.device)}
    times: dict[Computed, list[float]] = {name: [] for name in runs}
    for number in range(WARM_UPS + ROUNDS):
        for name, run in runs.items():
            taken_s = clock(run, 1, threads) / 1000
            if number >= WARM_UPS:
                times[name].append(taken_s)
            training.alive()
    return {name: median(each) for name, each in times.items()}


def _batch(training: Training, size: int) -> Batch:
    split = training.dataset.train
    x, y = split.examples(slice(0, size)), split.labels()[:size]
    return Batch(laid_out(x.to(training.device)), y.to(training.device), np.arange(size, dtype=np.int64), None)


def _run(training: Training, side: Side, batch: Batch, precision: Computed) -> Callable[[], None]:
    """A step in a precision, until the device is done with it."""
    import torch

    device, online = training.device, side.learner.online
    kept = None
    if online is not None and asked_once(online, training.dataset, training.spec, training.cache):
        kept = _shown(online, batch, precision)

    def step() -> None:
        shown = kept if online is None or kept is not None else _shown(online, batch, precision)
        with training_cast(precision, device):
            torch.autograd.backward(side.learner(batch, shown, 0.0).total)
        side.learner.zero_grad(set_to_none=True)
        if kind(device) == "cuda":
            torch.cuda.synchronize(device)

    return step


def _shown(online: Online, batch: Batch, precision: Computed) -> Outputs:
    """What the teacher shows of the batch; what goes on from there, as `tail` does, is in the same precision."""
    online.spec = online.spec.model_copy(update={"precision": precision})
    return online.outputs(batch)
