"""The training loop: a generator of progress, so that whoever listens decides what to keep and when to stop."""

# B batch, C channels, H W space, K classes, S steps, T the loss and its terms

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.batches import Alive, free_memory, unasked
from archsearch.data.metrics import metric
from archsearch.data.task import Dataset, Task
from archsearch.distill import checkpoint
from archsearch.distill.amount import amount, chosen
from archsearch.distill.attempts import attempts_of, identity_of
from archsearch.distill.checkpoint import Parts, TrainState
from archsearch.distill.group import Group, current
from archsearch.distill.loader import Batch, Loader, make_loader
from archsearch.distill.method import check_method, settle
from archsearch.distill.progress import Progress
from archsearch.distill.room import affordable
from archsearch.distill.schedule import OptimizerName, make_optimizer, scaled_lr, share
from archsearch.errors import InvalidRequest, TrainingError
from archsearch.precision import autocast, resolve
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, normalise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.distill.learner import Learner, Side
    from archsearch.distill.objective import Value

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 1.0
_CHECKPOINT_EVERY_S = 30.0
# The ends of epochs are the better places, as long as keeping them costs less than a twentieth of the time.
_KEPT_COST = 20
# A GPU is not made to wait for the loss of every step; what went wrong is taken back to the last checkpoint anyway.
_LOOK_EVERY = {"cpu": 1, "cuda": 25}

# A loss this many times what has been usual lately is a training that diverges. Lately, since losses with a warm-up
# begin near nothing.
_DIVERGED = 20.0
_FIRST_STEPS = 20
_FORGETS = 0.05
# How often a diverging training is taken back, how much gentler it goes on, and the gradient's length from then on.
_RETRIES = 3
_GENTLER = 0.3
_GENTLE_NORM = 1.0


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
    """Train `student` in place; when the generator ends the student is trained, in eval mode and on the CPU.

    The same settings give the same weights, interrupted or not: what a step does depends on the seed, its number and
    the state a checkpoint holds alone. On the CPU, with as many threads, the weights are the same to the bit.

    A training that goes on diverging in half precision begins again in fp32, from the same weights: it becomes the very
    one `precision="fp32"` asks for. What goes on from its checkpoint stays in fp32.

    Where torch.distributed runs, every process of the group calls this with the same arguments and trains on its share
    of each batch.

    Args:
        student: Freshly initialised.
        dataset: The training split is learned from, the selection split reported on, the test split not touched.
        teacher: Who is learned from; None only for methods without a teacher.
        optimizer: What `spec.optimizer="auto"` means for this family.
        checkpoint_path: Where to keep checkpoints, and to resume from if there is one of the same training.
        checkpoint_every_s: Seconds between checkpoints; 0 writes one after every step. The last step has one always.
        cache: Folder of what outlives a training: the teacher's answers to views.
        alive: Called within a step and while the selection split is looked at, where either takes long.

    Yields:
        About one report a second and one at the end of every epoch.

    Raises:
        TrainingError: The loss is no longer finite, or grows beyond measure, however gently it is trained.
        InvalidRequest: The method needs what is not there.
    """
    from archsearch.distill.learner import prepare

    check_distill(spec, dataset)
    spec = settle(chosen(spec, len(dataset.train)).spec, dataset.task).spec
    group, device = current(spec), device_of(spec)
    name: OptimizerName = optimizer if spec.optimizer == "auto" else spec.optimizer

    def known(attempt: DistillSpec) -> str:
        return identity_of(student, dataset, attempt, teacher, name)

    attempts = attempts_of(spec, device, checkpoint_path, known)
    initial = {key: value.detach().to("cpu", copy=True) for key, value in student.state_dict().items()}
    for attempt in attempts:
        # First: it is of the weights before they are trained.
        student.load_state_dict(initial)
        identity = known(attempt)
        try:
            with ExitStack() as stack:
                side = prepare(student, dataset, attempt, teacher, device=device, cache=cache, stack=stack, alive=alive)
                run = _Run(student, side, dataset, attempt, name, device, group, alive)
                yield from run.all(checkpoint_path, identity, checkpoint_every_s)
            break
        except _Hopeless as error:
            if attempt is attempts[-1]:
                raise
            log.warning("in half precision %s: the training begins again in fp32", error.detail)
    student.eval().cpu()


def logits(model: nn.Module, task: Task, x_BCHW: Tensor) -> Tensor:
    """A student's answers B×K to images in 0-1."""
    x_BCHW = x_BCHW.to(next(model.parameters()).device)
    answers_BK: Tensor = model(normalise(x_BCHW, task.mean, task.std))
    return answers_BK


def check_distill(spec: DistillSpec, dataset: Dataset | Any) -> None:
    """Raise unless the method fits the task and a batch fits the data; needs no torch.

    Args:
        dataset: Anything with a `task` and a `train` split that has a length.
    """
    task = dataset.task
    check_method(spec, task)
    if spec.precision == "fp16" and spec.device == "cpu":
        raise InvalidRequest("fp16 needs a GPU; on the CPU take bf16, fp32 or auto", field="distill.precision")
    chosen(spec, len(dataset.train))
    if spec.augment == "resized_crop" and task.in_chans not in (1, 3):
        raise InvalidRequest(
            f"resized_crop takes images of 1 or 3 channels, these have {task.in_chans}; take crop or none",
            field="distill.augment",
        )


def device_of(spec: DistillSpec) -> str:
    """What `auto` means on this machine; raises InvalidRequest where a GPU is asked for and there is none."""
    import torch

    if spec.device == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("torch finds no GPU here; take cpu or auto", field="distill.device")
    return "cuda" if spec.device != "cpu" and torch.cuda.is_available() else "cpu"


class _Run:
    """One training under way."""

    def __init__(
        self,
        student: nn.Module,
        side: Side,
        dataset: Dataset,
        spec: DistillSpec,
        optimizer: OptimizerName,
        device: str,
        group: Group,
        alive: Alive,
    ) -> None:
        import torch

        self.alive = alive
        self.student, self.side, self.dataset, self.spec = student, side, dataset, spec
        self.device, self.group = device, group
        self.optimizer_name = optimizer
        self.epochs, self.batch_size = amount(spec).epochs, amount(spec).batch_size
        self.peak_lr = spec.lr or scaled_lr(self.optimizer_name, self.batch_size)
        self.learner, self.names = _parallel(side.learner, device, group), side.learner.objective.names
        self.loader: Loader = make_loader(dataset, spec, device, group)
        average = None if spec.ema is None else _average(student, spec.ema)
        scaler = torch.amp.GradScaler(device, enabled=resolve(spec.precision, device) == "fp16")
        optim = make_optimizer(side.learner.parameters(), spec, self.optimizer_name)
        self.parts = Parts(student, side.learner.adapters, optim, average, scaler)
        self.per_epoch = len(dataset.train) // self.batch_size
        self.steps = self.per_epoch * self.epochs
        self.state = TrainState(
            micro_batch=affordable(spec, self.batch_size // group.size, student, side, dataset.task, device)
        )
        self.resumed_at, self.started = 0, time.monotonic()
        self.unseen: list[Tensor] = []

    def all(self, path: Path | None, identity: str, every_s: float) -> Iterator[Progress]:
        """Every epoch that is left, taken back where it diverges."""
        self.start = self.fallback = checkpoint.take(self.parts), self.state
        found = checkpoint.load(path, identity) if path else None
        if path is not None and found is not None:
            checkpoint.put_back(self.parts, found[0])
            self.state = found[1]
            self.fallback = checkpoint.load(_fallback(path), identity) or self.start
        self.resumed_at, self.started = self.state.step, time.monotonic()
        self.saved, self.keeping_s = self.started, 0.0
        while self.state.step < self.steps:
            try:
                yield from self._epoch(path, identity, every_s)
            except _Diverged as error:
                self.rollback(str(error))
        if self.parts.average is not None:
            self.student.load_state_dict(self.parts.average.module.state_dict())  # type: ignore[union-attr]

    def _epoch(self, path: Path | None, identity: str, every_s: float) -> Iterator[Progress]:
        """What is left of the epoch under way, reporting about once a second."""
        epoch, first = divmod(self.state.step, self.per_epoch)
        if first == 0:
            self.state = replace(self.state, loss_sum=0.0, loss_count=0, term_sums={})
        reported = time.monotonic()
        self.student.train()
        for batch in self.loader.epoch(epoch, first):
            self._step(batch)
            now = time.monotonic()
            # Several processes would have to agree on the time; they keep the ends of epochs.
            if now - self.saved >= every_s and self.state.step % self.per_epoch and self.group.size == 1:
                self._keep(path, identity)
            # The epoch's last step is reported with the epoch, once its checkpoint is kept.
            if now - reported > _REPORT_EVERY_S and self.state.step % self.per_epoch:
                reported = now
                yield self._report(measure=False)
        self._look()
        marked = (epoch + 1) % max(1, self.epochs // 20) == 0 or epoch + 1 == self.epochs
        due = time.monotonic() - self.saved >= min(every_s, _KEPT_COST * self.keeping_s)
        if marked or due or self.group.size > 1:
            self._keep(path, identity, fallback=marked)
        yield self._report(measure=marked)

    def _step(self, batch: Batch) -> None:
        import torch

        step = self.state.step
        # For dropout and whatever else draws: a step's own seed, so that one can go on at any of them.
        _seed(zlib.crc32(f"{self.spec.seed}/{step}/{self.group.rank}".encode()), self.device)
        for group in self.parts.optimizer.param_groups:
            group["lr"] = self.peak_lr * self.state.gentle * share(self.spec, step / self.steps)
        numbers_T = None
        while numbers_T is None:
            with suppress(torch.OutOfMemoryError):
                numbers_T = self._gradients(batch)
            if numbers_T is None:  # out here, where the error no longer holds the graph that filled the memory
                self._compute_less(len(batch.row_B))
        self._update()
        self.state = replace(self.state, step=step + 1)
        self.unseen.append(numbers_T)
        if len(self.unseen) >= _LOOK_EVERY[self.device]:
            self._look()

    def _gradients(self, batch: Batch) -> Tensor:
        """Gradients of the whole batch, summed over parts that fit into memory.

        Returns:
            The mean loss and then its terms, as `Value.numbers` gives them.
        """
        import torch

        self.parts.optimizer.zero_grad(set_to_none=True)
        size, step = self.state.micro_batch, self.state.step
        starts = range(0, len(batch.row_B), size)
        source = self.side.source
        numbers_T = torch.zeros(1 + len(self.names), device=self.device)
        for start in starts:
            part = batch if len(starts) == 1 else batch.part(start, start + size)
            teacher = None if source is None else source.outputs(part)
            last = start + size >= len(batch.row_B)
            with nullcontext() if last else self._unsynchronised(), autocast(self.spec.precision, self.device):
                value: Value = self.learner(part, teacher, step / self.steps)
                of_batch = len(part.row_B) / len(batch.row_B)
                torch.autograd.backward(self.parts.scaler.scale(value.total * of_batch))
            numbers_T += value.numbers() * of_batch
            if not last:
                self.alive()
        return numbers_T

    def _unsynchronised(self) -> Any:
        """Until the last part of a batch, processes need not tell each other their gradients."""
        return self.learner.no_sync() if self.group.size > 1 else nullcontext()  # type: ignore[operator]

    def _update(self) -> None:
        import torch

        parts, clip = self.parts, self.spec.clip_norm
        if self.state.retries:
            clip = min(clip or math.inf, _GENTLE_NORM)
        if clip is not None:
            parts.scaler.unscale_(parts.optimizer)
            torch.nn.utils.clip_grad_norm_(self.side.learner.parameters(), clip)
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        if parts.average is not None:
            parts.average.update(self.student, step=self.state.step)  # type: ignore[operator]

    def _look(self) -> None:
        """Look at the losses of the last steps; raises _Diverged where they are not finite or far too large."""
        import torch

        if not self.unseen:
            return
        numbers_ST = torch.stack(self.unseen)
        self.unseen.clear()
        if self.group.size > 1:  # all processes have to see the same, or they would part ways
            torch.distributed.all_reduce(numbers_ST)
            numbers_ST /= self.group.size
        for value, *terms in numbers_ST.tolist():
            usual, looked = self.state.usual, self.state.looked
            if not math.isfinite(value):
                raise _Diverged(f"the loss became {value}")
            if looked >= _FIRST_STEPS and value > _DIVERGED * max(usual, 1.0):
                raise _Diverged(f"the loss grew from {usual:.3g} to {value:.3g}")
            self.state = replace(
                self.state,
                loss_sum=self.state.loss_sum + value,
                loss_count=self.state.loss_count + 1,
                term_sums=self._with(terms),
                usual=usual + max(_FORGETS, 1 / (looked + 1)) * (value - usual),
                looked=looked + 1,
            )

    def _with(self, terms: Sequence[float]) -> dict[str, float]:
        """The sums of the epoch's terms with those of one more step."""
        sums = self.state.term_sums
        if self.state.loss_count and not sums:
            return {}  # an older checkpoint did not keep those of the steps before
        return {name: sums.get(name, 0.0) + term for name, term in zip(self.names, terms, strict=True)}

    def _keep(self, path: Path | None, identity: str, *, fallback: bool = False) -> None:
        """Write the state down, unless its weights are broken already.

        Args:
            fallback: Whether it is to be fallen back on, too. That is settled by the epoch's number and not by the
                clock, or the same settings would not give the same weights.
        """
        self._look()
        started = time.monotonic()
        tensors = checkpoint.take(self.parts)
        # Weights only: they are the same in all processes, while running statistics are each one's own.
        broken = [name for name, weight in self.student.named_parameters() if not weight.isfinite().all()]
        if broken:
            raise _Diverged(f"{broken[0]} is no longer finite")
        if fallback:
            self.fallback = tensors, self.state
        if self.side.source is not None:
            self.side.source.flush()
        if path is not None and self.group.leads:
            if fallback:  # before the checkpoint: whoever goes on from that has to find what it would fall back on
                checkpoint.save(_fallback(path), tensors, self.state, identity)
            checkpoint.save(path, tensors, self.state, identity)
        self.saved = time.monotonic()
        self.keeping_s = self.saved - started

    def rollback(self, what: str) -> None:
        """Go back and on from there more gently: first to the last marked epoch, then to the start.

        What was kept then may have been on its way out already, though finite still.
        """
        retries, step = self.state.retries + 1, self.state.step
        lr = self.peak_lr * self.state.gentle
        if retries > _RETRIES:
            raise _Hopeless(
                f"{what} at step {step} of {self.steps}, even at a learning rate of {lr:.3g} and gradients clipped to "
                f"{_GENTLE_NORM:g}; lower distill.lr (now {self.peak_lr:g}), or look at the loss's weights",
                field="distill.lr",
            )
        tensors, state = self.fallback if retries == 1 else self.start
        checkpoint.put_back(self.parts, tensors)
        self.unseen.clear()
        self.state = replace(state, retries=retries, gentle=self.state.gentle * _GENTLER)

    def _compute_less(self, images: int) -> None:
        """Halve what is computed at a time; raises TrainingError where that does not go."""
        size = min(self.state.micro_batch, images) // 2
        if size < 1 or self.group.size > 1:
            raise TrainingError(
                f"out of memory with {self.state.micro_batch} images at a time; set distill.micro_batch lower, "
                "or take a smaller batch_size",
                field="distill.micro_batch",
            )
        self.state = replace(self.state, micro_batch=size)
        self.parts.optimizer.zero_grad(set_to_none=True)
        free_memory()

    def _report(self, *, measure: bool) -> Progress:
        selection_acc, step = None, self.state.step
        if measure and self.group.leads:
            judged = self.student if self.parts.average is None else self.parts.average.module
            judged.eval()  # type: ignore[union-attr]
            answers = partial(logits, judged, self.dataset.task)  # type: ignore[arg-type]
            selection_acc = metric(self.dataset.task).measure(answers, self.dataset.selection, report=self.alive)
        done, elapsed_s = max(0, step - self.resumed_at), time.monotonic() - self.started
        return Progress(
            epoch=step // self.per_epoch,
            epochs=self.epochs,
            step=step,
            steps=self.steps,
            loss=self.state.loss_sum / max(1, self.state.loss_count),
            selection_acc=selection_acc,
            eta_s=elapsed_s / max(1, done) * (self.steps - step),
            images_per_s=done * self.batch_size / max(elapsed_s, 1e-9),
            resumed_at=self.resumed_at,
            retries=self.state.retries,
            cached=self.side.cached,
            micro_batch=self.state.micro_batch,
            lr=self.peak_lr * self.state.gentle,
            precision=resolve(self.spec.precision, self.device),
            metric=metric(self.dataset.task).key,
            terms={name: total / max(1, self.state.loss_count) for name, total in self.state.term_sums.items()},
        )


def _seed(seed: int, device: str) -> None:
    """As torch.manual_seed, which also looks for devices that are not there: a tenth of a millisecond a step."""
    import torch

    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)


class _Diverged(Exception):
    """The training went wrong since the last good state."""


class _Hopeless(TrainingError):
    """The training diverges however gently it goes on."""


def _fallback(path: Path) -> Path:
    """Where the state to fall back on lies, beside the checkpoint."""
    return path.with_suffix(".fallback.safetensors")


def _average(student: nn.Module, decay: float) -> Any:
    from timm.utils.model_ema import ModelEmaV3

    # Warm-up: at first the average follows closely, or it would remember the random start for long.
    return ModelEmaV3(student, decay=decay, use_warmup=True)


def _parallel(learner: Learner, device: str, group: Group) -> nn.Module:
    """The learner with gradients averaged over the group."""
    import torch

    if group.size == 1:
        return learner
    ids = [torch.cuda.current_device()] if device == "cuda" else None
    # Running statistics are the leader's, who evaluates and writes; memories of losses exchange what they learn.
    parallel: nn.Module = torch.nn.parallel.DistributedDataParallel(learner, device_ids=ids, broadcast_buffers=False)
    return parallel
