"""A teacher that looks at the next batch while the student learns from this one, where a processor has idle cores."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack

from archsearch.data.batches import unasked
from archsearch.device import cores, kind
from archsearch.distill.loader import Batch
from archsearch.distill.loss import Outputs
from archsearch.distill.teacher_source import Online, TeacherSource

_ASK_EVERY_S = 1.0


class Ahead:
    """The same answers to the bit, from a thread of its own, whether it was asked of a batch before or not."""

    def __init__(self, online: Online, stack: ExitStack) -> None:
        self.online, self.asked = online, list[tuple[Batch, Future[Outputs]]]()
        # Whoever wants to know whether the work is still wanted is asked by the training's own thread.
        self.there = copy.copy(online)
        self.there.alive = unasked
        self.pool = ThreadPoolExecutor(1, "teacher")
        stack.callback(self.pool.shutdown, cancel_futures=True)

    def ask(self, batch: Batch) -> None:
        """Look at a batch that will be wanted soon; one before the last that nobody wanted is forgotten."""
        self.asked = [*self.asked[-1:], (batch, self.pool.submit(self.there.outputs, batch))]

    def outputs(self, batch: Batch) -> Outputs:
        for known, answer in self.asked:
            if known is batch:
                return self._waited(answer)
        # By the same thread: one network is not asked by two.
        return self._waited(self.pool.submit(self.there.outputs, batch))

    def flush(self) -> None:
        """Nothing is kept."""

    def _waited(self, answer: Future[Outputs]) -> Outputs:
        while True:
            try:
                return answer.result(_ASK_EVERY_S)
            except NotYet:
                if answer.done():
                    raise
                self.online.alive()


def where_idle(source: TeacherSource, stack: ExitStack) -> TeacherSource:
    """The source, ahead where it is a teacher that looks at every batch, shows logits alone, and finds idle cores.

    Args:
        stack: Ends its thread when it closes.
    """
    import torch

    if not isinstance(source, Online) or source.watched.reads - {"logits"} or kind(source.device) != "cpu":
        return source
    return Ahead(source, stack) if cores() >= 2 * torch.get_num_threads() else source


def one_ahead(batches: Iterator[Batch], source: TeacherSource | None, *, whole: bool) -> Iterator[Batch]:
    """The batches, each of which the teacher looks at while the one before it is learned from.

    Args:
        whole: They are computed in one go; else the teacher is asked of their parts.
    """
    if not whole or not isinstance(source, Ahead):
        yield from batches
        return
    waiting: Batch | None = None
    for batch in batches:
        source.ask(batch)
        if waiting is not None:
            yield waiting
        waiting = batch
    if waiting is not None:
        yield waiting
