"""One step of a training: a batch's gradients, in as many parts as the memory asks for, and what they change."""

# T the loss and its terms

from __future__ import annotations

import zlib
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archsearch.data.batches import free_memory
from archsearch.device import seed
from archsearch.distill.loader import Batch
from archsearch.distill.schedule import share
from archsearch.distill.setup import Setup
from archsearch.distill.state import TrainState
from archsearch.errors import TrainingError
from archsearch.precision import training_cast

if TYPE_CHECKING:
    from torch import Tensor

    from archsearch.distill.objective import Value


def take_step(setup: Setup, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
    """Learn from a batch.

    Returns:
        The state after it, and the batch's mean loss with its terms, as `Value.numbers` gives them: on the device, and
        not looked at yet.

    Raises:
        TrainingError: Not even one image at a time fits into memory.
    """
    import torch

    # For dropout and whatever else draws: a step's own seed, so that one can go on at any of them.
    seed(setup.device, zlib.crc32(f"{setup.spec.seed}/{state.step}/{setup.group.rank}".encode()))
    for group in setup.parts.optimizer.param_groups:
        group["lr"] = setup.peak_lr * state.gentle * share(setup.spec, state.step / setup.steps)
    numbers_T = None
    while numbers_T is None:
        with suppress(torch.OutOfMemoryError):
            numbers_T = _gradients(setup, state, batch)
        if numbers_T is None:  # out here, where the error no longer holds the graph that filled the memory
            state = _compute_less(setup, state, len(batch.row_B))
    _update(setup, state)
    return replace(state, step=state.step + 1), numbers_T


def _gradients(setup: Setup, state: TrainState, batch: Batch) -> Tensor:
    """Gradients of the whole batch, summed over parts that fit into memory; returns its numbers."""
    import torch

    setup.parts.optimizer.zero_grad(set_to_none=True)
    size, source = state.micro_batch, setup.side.source
    starts = range(0, len(batch.row_B), size)
    numbers_T = torch.zeros(1 + len(setup.terms), device=setup.device)
    for start in starts:
        part = batch if len(starts) == 1 else batch.part(start, start + size)
        teacher = None if source is None else source.outputs(part)
        last = start + size >= len(batch.row_B)
        with nullcontext() if last else _unsynchronised(setup), training_cast(setup.spec.precision, setup.device):
            value: Value = setup.run(part, teacher, state.step / setup.steps)
            of_batch = part.decisions / max(1, batch.decisions)
            torch.autograd.backward(setup.parts.scaler.scale(value.total * of_batch))
        numbers_T += value.numbers() * of_batch
        if not last:
            setup.alive()
    return numbers_T


def _unsynchronised(setup: Setup) -> Any:
    """Until the last part of a batch, processes need not tell each other their gradients."""
    return setup.run.no_sync() if setup.group.size > 1 else nullcontext()  # type: ignore[operator]


def _update(setup: Setup, state: TrainState) -> None:
    import torch

    parts, clip = setup.parts, state.clip_norm(setup.spec.clip_norm)
    if clip is not None:
        parts.scaler.unscale_(parts.optimizer)
        torch.nn.utils.clip_grad_norm_(setup.side.learner.parameters(), clip)
    parts.scaler.step(parts.optimizer)
    parts.scaler.update()
    if parts.average is not None:
        parts.average.update(parts.student, step=state.step)  # type: ignore[operator]


def _compute_less(setup: Setup, state: TrainState, images: int) -> TrainState:
    """Halve what is computed at a time; raises TrainingError where that does not go."""
    size = min(state.micro_batch, images) // 2
    if size < 1 or setup.group.size > 1:
        raise TrainingError(
            f"out of memory with {state.micro_batch} examples at a time; set distill.micro_batch lower, "
            "or take a smaller batch_size",
            field="distill.micro_batch",
        )
    setup.parts.optimizer.zero_grad(set_to_none=True)
    free_memory()
    return replace(state, micro_batch=size)
