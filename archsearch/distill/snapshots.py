"""The states a training can go back to: after an interruption to the last one kept, after diverging to a good one."""

from __future__ import annotations

import time
from pathlib import Path

from archsearch.distill import checkpoint
from archsearch.distill.setup import Setup
from archsearch.distill.state import GENTLE_NORM, RETRIES, Diverged, Hopeless, TrainState

# The ends of epochs are the better places, as long as keeping them costs less than a twentieth of the time.
_KEPT_COST = 20


class Snapshots:
    """The start and the last marked epoch in memory; on disk, where a path is given, what the training goes on from."""

    def __init__(self, setup: Setup, path: Path | None, identity: str, every_s: float) -> None:
        self._setup, self._path, self._identity, self._every_s = setup, path, identity, every_s

    def resume(self, start: TrainState) -> TrainState:
        """The state to begin with: the one on disk if there is one of the same training, else this."""
        state, parts = start, self._setup.parts
        self._start = self._fallback = checkpoint.take(parts), start
        found = checkpoint.load(self._path, self._identity) if self._path else None
        if self._path is not None and found is not None:
            checkpoint.put_back(parts, found[0])
            state = found[1]
            self._fallback = checkpoint.load(_fallback(self._path), self._identity) or self._start
        self._saved, self._cost_s = time.monotonic(), 0.0
        return state

    def due(self, *, epoch_ends: bool) -> bool:
        """Whether it is time to keep another."""
        passed_s = time.monotonic() - self._saved
        if epoch_ends:
            # Several processes would have to agree on the time; they keep the ends of all epochs.
            return self._setup.group.size > 1 or passed_s >= min(self._every_s, _KEPT_COST * self._cost_s)
        return self._setup.group.size == 1 and passed_s >= self._every_s

    def keep(self, state: TrainState, *, fallback: bool) -> None:
        """Take a state whose losses have all been looked at; raises Diverged where its weights are broken already.

        Args:
            fallback: Whether it is to be fallen back on, too. That is settled by the epoch's number and not by the
                clock, or the same settings would not give the same weights.
        """
        started, setup = time.monotonic(), self._setup
        tensors = checkpoint.take(setup.parts)
        # Weights only: they are the same in all processes, while running statistics are each one's own.
        broken = [name for name, weight in setup.student.named_parameters() if not weight.isfinite().all()]
        if broken:
            raise Diverged(f"{broken[0]} is no longer finite")
        if fallback:
            self._fallback = tensors, state
        if setup.side.source is not None:
            setup.side.source.flush()
        if self._path is not None and setup.group.leads:
            if fallback:  # before the checkpoint: whoever goes on from that has to find what it would fall back on
                checkpoint.save(_fallback(self._path), tensors, state, self._identity)
            checkpoint.save(self._path, tensors, state, self._identity)
        self._saved = time.monotonic()
        self._cost_s = self._saved - started

    def rollback(self, state: TrainState, why: str) -> TrainState:
        """Go back, and on from there more gently: first to the last marked epoch, then to the start.

        What was kept then may have been on its way out already, though finite still.

        Raises:
            Hopeless: That has been tried often enough.
        """
        setup = self._setup
        if state.retries >= RETRIES:
            raise Hopeless(
                f"{why} at step {state.step} of {setup.steps}, even at a learning rate of "
                f"{setup.peak_lr * state.gentle:.3g} and gradients clipped to {GENTLE_NORM:g}; "
                f"lower distill.lr (now {setup.peak_lr:g}), or look at the loss's weights",
                field="distill.lr",
            )
        tensors, earlier = self._start if state.retries else self._fallback
        checkpoint.put_back(setup.parts, tensors)
        return state.gentler_from(earlier)


def _fallback(path: Path) -> Path:
    """Where the state to fall back on lies, beside the checkpoint."""
    return path.with_suffix(".fallback.safetensors")
