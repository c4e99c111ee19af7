"""Memory that a training takes, estimated before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import domains
from archsearch.data.batches import require_room
from archsearch.data.task import Task
from archsearch.memory import machine_bytes
from archsearch.request import DistillSpec
from archsearch.teachers import input_bytes

if TYPE_CHECKING:
    from torch import nn

    from archsearch.distill.learner import Side

# Of this machine's memory, what a step may take; and what kernels and gradients of maps take beside the maps.
_SHARE, _KERNELS = 0.5, 1.5
# Of an example as a network takes it, what it takes on its way there: as it is stored, shifted, and before and after it
# is prepared.
_ON_ITS_WAY = 2.5


def require_room_for_batch(batch_size: int, task: Task) -> None:
    """Raise TooMuchMemory where the images of one step alone are more than there is room for."""
    domain = domains.of(task)
    require_room(
        _ON_ITS_WAY * batch_size * domain.shape(task).bytes,
        f"a step of {batch_size} {domain.told(task)}",
        field="distill.batch_size",
        fix="give a smaller distill.batch_size",
    )


def affordable(spec: DistillSpec, batch: int, student: nn.Module, side: Side, task: Task, device: str) -> int:
    """Images computed at a time: those asked for, or on a processor half, a quarter … of them until a step fits.

    A GPU says itself when it is full; a processor's memory ends with the process. The machine's size decides and not
    what is free now, so that the same machine does the same again.
    """
    size = spec.micro_batch or batch
    if device != "cpu":
        return size
    pair = input_bytes(student, domains.of(task).shape(task), count=2, graph=True)
    asked = 0
    if side.teacher is not None:
        asked = input_bytes(side.teacher.model, side.teacher.shape(task)) or 0
    one = _KERNELS * (asked + (0 if pair is None else pair / 2))
    while size > 1 and one * size > _SHARE * machine_bytes():
        size //= 2
    return size
