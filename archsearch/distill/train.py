"""The training loop: a generator of progress, so that whoever listens decides what to keep and when to stop."""

# B batch, C channels, H W space, K classes, S steps, T the loss and its terms

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data import metrics
from archsearch.data.batches import Alive, free_memory, unasked
from archsearch.data.task import Dataset, Task
from archsearch.device import kind, where
from archsearch.device import resolve as resolve_device
from archsearch.distill.ahead import one_ahead
from archsearch.distill.amount import chosen
from archsearch.distill.attempts import attempts_of, identity_of
from archsearch.distill.chosen_precision import choose
from archsearch.distill.group import current
from archsearch.distill.loader import Batch
from archsearch.distill.method import check_method, settle
from archsearch.distill.pool import check_pool
from archsearch.distill.progress import Progress
from archsearch.distill.room import affordable
from archsearch.distill.schedule import OptimizerName
from archsearch.distill.setup import Setup, set_up
from archsearch.distill.snapshots import Snapshots
from archsearch.distill.state import Diverged, Hopeless, TrainState
from archsearch.distill.step import take_step
from archsearch.distill.timed_step import Training
from archsearch.errors import InvalidRequest, TrainingError
from archsearch.precision import resolve
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 1.0
_CHECKPOINT_EVERY_S = 30.0
# A GPU is not made to wait for the loss of every step; what went wrong is rolled back to the last checkpoint anyway.
_LOOK_EVERY_THERE = 25


def train(
    student: nn.Module,
    dataset: Dataset,
    spec: DistillSpec,
    *,
    teacher: Teacher | None,
    optimizer: OptimizerName = "sgd",
    checkpoint_path: Path | None = None,
    checkpoint_every_s: float = _CHECKPOINT_EVERY_S,
    cache: Path | None = None,
    alive: Alive = unasked,
) -> Iterator[Progress]:
    """Train `student` in place; when the generator ends the student is trained, in eval mode and where it was trained.

    The same settings give the same weights, interrupted or not: what a step does depends on the seed, its number and
    the state a checkpoint holds alone. On the CPU, with as many threads, the weights are the same to the bit.

    A training that goes on diverging in half precision begins again in fp32, from the same weights: it becomes the very
    one `precision="fp32"` asks for. What goes on from its checkpoint stays in fp32. Where the request leaves the
    precision open, `chosen_precision` says what is taken, and what was measured once is kept in `cache`.

    Where torch.distributed runs, every process of the group calls this with the same arguments and trains on its share
    of each batch.

    Args:
        student: Freshly initialised.
        dataset: The training split and what has no labels are learned from, the selection split is reported on, the
            test split not touched.
        teacher: Who is learned from; None only for methods without a teacher.
        optimizer: What `spec.optimizer="auto"` means for this family.
        checkpoint_path: Where to keep checkpoints, and to resume from if there is one of the same training.
        checkpoint_every_s: Seconds between checkpoints; 0 writes one after every step. The last step has one always.
        cache: Folder of what outlives a training: the teacher's answers to views, what a step takes.
        alive: Called within a step and while the selection split is looked at, where either takes long.

    Yields:
        About one report a second and one at the end of every epoch.

    Raises:
        TrainingError: The loss is no longer finite, or grows beyond measure, however gently it is trained.
        InvalidRequest: The method needs what is not there.
    """
    import torch

    from archsearch.distill.learner import prepare

    check_distill(spec, dataset.task)
    check_pool(spec, dataset)
    spec = settle(chosen(spec, dataset.training_examples, domains.of(dataset.task).pace).spec, dataset.task).spec
    group, device = current(spec), device_of(spec)
    name: OptimizerName = optimizer if spec.optimizer == "auto" else spec.optimizer

    def known(attempt: DistillSpec) -> str:
        return identity_of(student, dataset, attempt, teacher, name)

    of = Training(student, dataset, spec, teacher, device, group, cache, alive)
    wanted, full = choose(of, checkpoint_path, known), False
    attempts = attempts_of(wanted.of(spec), device, checkpoint_path, known)
    initial = {key: value.detach().to("cpu", copy=True) for key, value in student.state_dict().items()}
    for attempt in attempts:
        # First: it is of the weights before they are trained.
        student.load_state_dict(initial)
        identity = known(attempt)
        try:
            with ExitStack() as stack:
                side = prepare(student, dataset, attempt, teacher, device=device, cache=cache, stack=stack, alive=alive)
                where: Any = {"device": device, "group": group, "alive": alive}
                setup = set_up(student, side, dataset, attempt, name, **where, wanted=wanted)
                yield from _Run(setup, Snapshots(setup, checkpoint_path, identity, checkpoint_every_s)).all()
            break
        except torch.OutOfMemoryError:
            full = True
        except Hopeless as error:
            if attempt is attempts[-1]:
                raise
            log.warning("in half precision %s: the training begins again in fp32", error.detail)
        if full:  # out here, where the error no longer holds what filled it
            raise _no_room(student, device)
    student.eval()


def _no_room(student: nn.Module, device: str) -> TrainingError:
    """What to say where memory ran out elsewhere than in a step, which takes smaller pieces; the student makes room."""
    student.zero_grad()
    student.cpu()
    free_memory()
    return TrainingError(
        f"{device} has no memory for the student, its teacher and the optimizer's state together, however few examples "
        "are computed at a time; take smaller networks, or another device",
        field="device",
    )


def logits(model: nn.Module, task: Task, x: Tensor) -> Tensor:
    """A student's answers B×K to examples as a split gives them."""
    answers_BK: Tensor = model(domains.of(task).prepare(x.to(where(model)), task))
    return answers_BK


def check_distill(spec: DistillSpec, task: Task | None) -> None:
    """Raise unless the method exists and, where the task is known, fits it; needs no torch."""
    check_method(spec, task)
    if task is None:
        return
    if spec.precision == "fp16" and spec.device == "cpu":
        raise InvalidRequest("fp16 needs a GPU; on the CPU take bf16, fp32 or auto", field="distill.precision")
    domains.of(task).check(spec, task)


def device_of(spec: DistillSpec, *, field: str = "distill.device") -> str:
    """Where a training is computed on this machine; raises InvalidRequest where that is not there."""
    return resolve_device(spec.device or "auto", field=field)


class _Run:
    """One training under way.

    Attributes:
        state: Where it stands, as checkpoints keep it. All else here is this process's own.
        unseen: Losses of the last steps, with their terms, that nobody has looked at yet.
    """

    def __init__(self, setup: Setup, snapshots: Snapshots) -> None:
        self.setup, self.snapshots = setup, snapshots
        spec, task, own = setup.spec, setup.dataset.task, setup.batch_size // setup.group.size
        start = TrainState(micro_batch=affordable(spec, own, setup.student, setup.side, task, setup.device))
        self.state = snapshots.resume(start)
        self.unseen: list[Tensor] = []
        self.resumed_at, self.started = self.state.step, time.monotonic()

    def all(self) -> Iterator[Progress]:
        """Every epoch that is left, rolled back where it diverges."""
        while self.state.step < self.setup.steps:
            try:
                yield from self._epoch()
            except Diverged as error:
                self.unseen.clear()
                self.state = self.snapshots.rollback(self.state, str(error))
        average = self.setup.parts.average
        if average is not None:
            self.setup.student.load_state_dict(average.module.state_dict())  # type: ignore[union-attr]

    def _epoch(self) -> Iterator[Progress]:
        """What is left of the epoch under way, reporting about once a second."""
        setup, reported = self.setup, time.monotonic()
        epoch, first = divmod(self.state.step, setup.per_epoch)
        if first == 0:
            self.state = self.state.next_epoch()
        setup.student.train()
        whole = self.state.micro_batch >= setup.batch_size // setup.group.size
        for batch in one_ahead(setup.loader.epoch(epoch, first), setup.side.source, whole=whole):
            self._step(batch)
            # The epoch's last step is kept with the epoch, and reported once that is done.
            if self.state.step % setup.per_epoch == 0:
                continue
            if self.snapshots.due(epoch_ends=False):
                self._look()
                self.snapshots.keep(self.state, fallback=False)
            if time.monotonic() - reported > _REPORT_EVERY_S:
                reported = time.monotonic()
                yield self._report(measure=False)
        self._look()
        marked = (epoch + 1) % max(1, setup.epochs // 20) == 0 or epoch + 1 == setup.epochs
        if marked or self.snapshots.due(epoch_ends=True):
            self.snapshots.keep(self.state, fallback=marked)
        yield self._report(measure=marked)

    def _step(self, batch: Batch) -> None:
        self.state, numbers_T = take_step(self.setup, self.state, batch)
        self.unseen.append(numbers_T)
        if len(self.unseen) >= (1 if kind(self.setup.device) == "cpu" else _LOOK_EVERY_THERE):
            self._look()

    def _look(self) -> None:
        """Look at the losses of the last steps; raises Diverged where they are not finite or far too large."""
        import torch

        if not self.unseen:
            return
        numbers_ST = torch.stack(self.unseen)
        self.unseen.clear()
        if self.setup.group.size > 1:  # all processes have to see the same, or they would part ways
            torch.distributed.all_reduce(numbers_ST)
            numbers_ST /= self.setup.group.size
        for loss, *terms in numbers_ST.tolist():
            self.state = self.state.with_loss(loss, dict(zip(self.setup.terms, terms, strict=True)))

    def _report(self, *, measure: bool) -> Progress:
        setup, state = self.setup, self.state
        judge, reached = domains.judge(setup.dataset.task), None
        if measure and setup.group.leads:
            student: Any = setup.student if setup.parts.average is None else setup.parts.average.module
            answers = partial(logits, student.eval(), setup.dataset.task)
            reached = metrics.measure(judge, answers, setup.dataset.selection, report=setup.alive)
            reached = reached if math.isfinite(reached) else None  # a loss may be none, and JSON has numbers only
        computed, wanted = (resolve(name, setup.device) for name in (setup.spec.precision, setup.chosen.precision))
        done, elapsed_s = max(0, state.step - self.resumed_at), time.monotonic() - self.started
        return Progress(
            epoch=state.step // setup.per_epoch,
            epochs=setup.epochs,
            step=state.step,
            steps=setup.steps,
            loss=state.loss,
            selection_acc=reached,
            eta_s=elapsed_s / max(1, done) * (setup.steps - state.step),
            images_per_s=done * setup.batch_size / max(elapsed_s, 1e-9),
            resumed_at=self.resumed_at,
            retries=state.retries,
            cached=setup.side.cached,
            micro_batch=state.micro_batch,
            lr=setup.peak_lr * state.gentle,
            metric=judge.key,
            unit=judge.unit,
            better=judge.better,
            precision=computed,
            precision_wanted=wanted,
            precision_why=setup.chosen.why if computed == wanted else f"{computed}: in {wanted} it diverged",
            terms=state.terms,
        )
