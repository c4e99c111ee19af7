"""The training loop: a generator of progress, so that whoever listens decides what to keep and when to stop."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from archsearch.data.metrics import accuracy
from archsearch.data.task import Dataset, Task
from archsearch.distill import checkpoint
from archsearch.distill.augment import augment
from archsearch.distill.loss import losses
from archsearch.errors import InvalidRequest, TrainingError
from archsearch.precision import autocast
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, fingerprint, normalise

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

# Peak learning rates of one cycle at batch 128; they follow the batch (linearly for SGD, by its root for AdamW).
_PEAK_LR = {"sgd": 0.1, "adamw": 1e-3}
_WARMUP = 0.15
_REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        epoch: Epochs finished, counting those before a resume.
        step: Steps finished, likewise.
        loss: Mean training loss since the last report of the same epoch's start.
        selection_acc: Accuracy in percent on the selection split, where this report measured it.
        eta_s: Estimated seconds to the end.
        resumed_at: The epoch a checkpoint let this training continue from, 0 for a fresh start.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    selection_acc: float | None
    eta_s: float
    resumed_at: int


def train(
    student: nn.Module,
    dataset: Dataset,
    spec: DistillSpec,
    *,
    teacher: Teacher | None,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    checkpoint_path: Path | None = None,
) -> Iterator[Progress]:
    """Train `student` in place; when the generator ends the student is trained and in eval mode.

    The same settings give the same weights, interrupted or not: order and augmentation of an epoch depend on the seed
    and the epoch's number alone, and a checkpoint after every epoch holds everything else.

    Args:
        student: Freshly initialised.
        dataset: The training split is learned from, the selection split reported on, the test split not touched.
        teacher: Who is learned from; None only for methods without a teacher.
        optimizer: What `spec.optimizer="auto"` means for this family.
        checkpoint_path: Where to keep checkpoints, and to resume from if there is one of the same training.

    Yields:
        About one report a second and one at the end of every epoch.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    import torch

    check_distill(spec, len(dataset.train))
    method = losses.get(spec.method, field="distill.method")
    if method.needs_teacher and teacher is None:
        raise InvalidRequest(f"{spec.method} needs a teacher", field="distill.method")
    asked = teacher if method.needs_teacher else None
    student.to(memory_format=torch.channels_last)
    name = optimizer if spec.optimizer == "auto" else spec.optimizer
    optim = _optimizer(student, spec, name)
    parts = (spec.model_dump_json(), name, dataset.sha256, asked.sha256 if asked else "", fingerprint(student))
    identity = "|".join(parts)
    done = checkpoint.resume(checkpoint_path, student, optim, identity) if checkpoint_path else 0
    run = _Run(student, asked, dataset, spec, optim, name, done)
    for epoch in range(done, spec.epochs):
        yield from run.epoch(epoch)
        if checkpoint_path:
            checkpoint.save(checkpoint_path, student, optim, epoch + 1, identity)
        yield run.report(epoch + 1, measure=(epoch + 1) % max(1, spec.epochs // 20) == 0 or epoch + 1 == spec.epochs)
    student.eval()


def logits(model: nn.Module, task: Task, x_BCHW: Tensor) -> Tensor:
    """A student's answers B×K to images in 0-1."""
    answers_BK: Tensor = model(normalise(x_BCHW, task.mean, task.std))
    return answers_BK


def check_distill(spec: DistillSpec, images: int) -> None:
    """Raise unless the method exists and a batch fits the data."""
    losses.get(spec.method, field="distill.method")
    if spec.batch_size > images:
        raise InvalidRequest(
            f"{spec.batch_size} is more than the {images} training images there are", field="distill.batch_size"
        )


class _Run:
    """One training under way: the counters a report is made of."""

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | None,
        dataset: Dataset,
        spec: DistillSpec,
        optimizer: Optimizer,
        optimizer_name: Literal["sgd", "adamw"],
        done: int,
    ) -> None:
        self.student, self.teacher, self.dataset, self.spec = student, teacher, dataset, spec
        self.optimizer = optimizer
        self.peak_lr = spec.lr or scaled_lr(optimizer_name, spec.batch_size)
        self.method = losses.get(spec.method)
        self.per_epoch = len(dataset.train) // spec.batch_size
        self.steps = self.per_epoch * spec.epochs
        self.step = self.first_step = done * self.per_epoch
        self.resumed_at = done
        self.started = time.monotonic()
        self.loss_sum, self.loss_count = 0.0, 0

    def epoch(self, epoch: int) -> Iterator[Progress]:
        """One pass over the training split, reporting about once a second."""
        import torch

        # A generator of its own for each epoch: what an epoch does depends on nothing that came before it.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.spec.seed}/{epoch}".encode()))
        torch.manual_seed(self.spec.seed + epoch)  # for dropout, where a network has it
        self.loss_sum, self.loss_count = 0.0, 0
        order = torch.randperm(len(self.dataset.train), generator=generator)
        reported = time.monotonic()
        self.student.train()
        for i in range(self.per_epoch):
            rows = order[i * self.spec.batch_size : (i + 1) * self.spec.batch_size].numpy()
            self._step(*self._batch(rows, generator))
            if time.monotonic() - reported > _REPORT_EVERY_S:
                reported = time.monotonic()
                yield self.report(epoch, measure=False)

    def report(self, epoch: int, *, measure: bool) -> Progress:
        selection_acc = None
        if measure:
            self.student.eval()
            selection_acc = accuracy(lambda x: logits(self.student, self.dataset.task, x), self.dataset.selection)
        pace = (time.monotonic() - self.started) / max(1, self.step - self.first_step)
        return Progress(
            epoch=epoch,
            epochs=self.spec.epochs,
            step=self.step,
            steps=self.steps,
            loss=self.loss_sum / max(1, self.loss_count),
            selection_acc=selection_acc,
            eta_s=pace * (self.steps - self.step),
            resumed_at=self.resumed_at,
        )

    def _batch(self, rows_B: npt.NDArray[np.int64], generator: Generator) -> tuple[Tensor, Tensor]:
        import torch

        train = self.dataset.train
        x_BCHW = torch.from_numpy(train.x_NHWC[rows_B]).permute(0, 3, 1, 2)
        x_BCHW = augment(x_BCHW, self.spec.augment, generator)
        return x_BCHW.float() / 255, torch.from_numpy(train.y_N[rows_B])

    def _step(self, x_BCHW: Tensor, y_B: Tensor) -> None:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_lr * one_cycle(self.step / self.steps)
        with autocast(self.spec.precision):
            teacher_BK = None
            if self.teacher is not None:
                with torch.no_grad():
                    teacher_BK = self.teacher.logits(x_BCHW)
            task = self.dataset.task
            x_BCHW = normalise(x_BCHW, task.mean, task.std).contiguous(memory_format=torch.channels_last)
            loss = self.method.compute(self.student(x_BCHW), teacher_BK, y_B, self.spec)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.step} of {self.steps}; lower distill.lr (now {self.peak_lr:g})",
                field="distill.lr",
            )
        self.loss_sum, self.loss_count = self.loss_sum + value, self.loss_count + 1


def one_cycle(done: float) -> float:
    """Share of the peak learning rate when `done` of the steps are done: up in a line, down in a cosine to nothing."""
    if done < _WARMUP:
        return (done + 0.01) / (_WARMUP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP)))


def scaled_lr(optimizer: Literal["sgd", "adamw"], batch_size: int) -> float:
    """The peak learning rate for a batch size."""
    share = batch_size / 128
    return _PEAK_LR[optimizer] * (share if optimizer == "sgd" else math.sqrt(share))


def _optimizer(model: nn.Module, spec: DistillSpec, name: Literal["sgd", "adamw"]) -> Optimizer:
    """Weight decay for matrices and kernels only: on norms and biases it only takes capacity away."""
    import torch

    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=1.0, weight_decay=spec.weight_decay)
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True, weight_decay=spec.weight_decay)
