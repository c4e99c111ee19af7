"""The student with everything its losses need: adapters, the stages in sight, and the teacher's side of a batch."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Collection, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archsearch import domains
from archsearch.data.batches import Alive, unasked
from archsearch.data.decisions import decisions
from archsearch.data.task import Dataset, Task
from archsearch.device import kind, where
from archsearch.distill.ahead import where_idle
from archsearch.distill.kept import filled
from archsearch.distill.loader import Batch
from archsearch.distill.loss import LossInputs, Outputs, Read, Sizes
from archsearch.distill.objective import Objective, Value, objective
from archsearch.distill.teacher_source import Cached, Online, TeacherSource, cached, tail
from archsearch.distill.watched import Watched, attention_of, comparable
from archsearch.errors import InvalidRequest
from archsearch.evidence.layers import differentiable
from archsearch.precision import exact
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher


class Learner(nn.Module):
    """From a batch to its loss. Trained as one module, so that adapters and student are treated alike.

    Attributes:
        mixed: Whether batches hold examples without labels, be they some or all.
    """

    def __init__(
        self,
        watched: Watched,
        objective: Objective,
        adapters: dict[str, nn.Module],
        task: Task,
        online: Online | None,
        mixed: bool = False,
    ) -> None:
        super().__init__()
        self.student, self.adapters = watched.model, nn.ModuleDict(adapters)
        self.watched, self.objective, self.task, self.online = watched, objective, task, online
        self.mixed = mixed
        self.domain = domains.of(task)
        self.run: Any = watched.model

    def forward(self, batch: Batch, teacher: Outputs | None, done: float) -> Value:
        """The loss of a batch and its terms when `done` (0 to 1) of the training is over."""
        answers, decided = self.run(self.domain.prepare(batch.x, self.task)), decisions(batch.y)
        go_on = tail(self.online, batch) if self.online is not None and "tail" in self.objective.reads else None
        row_B = torch.from_numpy(batch.row_B).to(batch.x.device)
        student = self.watched.outputs(decided.rows(answers))
        teacher = None if teacher is None else filled(teacher, student.answers_MK)
        inputs = LossInputs(
            student,
            teacher,
            decided.targets_M,
            row_B,
            done,
            tail=go_on,
            example_M=decided.example_M,
            known_M=self._known(decided.targets_M),
            other_M=None if batch.mixed is None else batch.mixed.y,
            share_M=None if batch.mixed is None else batch.mixed.share_B,
        )
        with exact(batch.x.device):  # norms, Gram matrices and logarithms do not survive half precision
            return self.objective.value(inputs, dict(self.adapters.items()))

    def _known(self, targets_M: Tensor) -> Tensor | None:
        """Which decisions have labels; None where all have. No look at a single value: a GPU would be waited for."""
        if not self.mixed:
            return None
        return (targets_M if targets_M.ndim == 1 else targets_M[:, 0]) >= 0


@dataclass(frozen=True)
class Side:
    """The parts of a training that stay the same."""

    learner: Learner
    source: TeacherSource | None
    teacher: Teacher | None

    @property
    def cached(self) -> float | None:
        """Share of the teacher's answers that were kept already."""
        if not isinstance(self.source, Cached):
            return None
        cache = self.source.cache
        return cache.found / max(1, cache.found + cache.asked)


def prepare(
    student: nn.Module,
    dataset: Dataset,
    spec: DistillSpec,
    teacher: Teacher | None,
    *,
    device: str,
    cache: Path | None,
    stack: ExitStack,
    alive: Alive = unasked,
) -> Side:
    """Student and teacher on the device, in sight of each other, with the adapters their losses need.

    Args:
        stack: Takes hooks off and the teacher back to where it was when it closes.
        alive: Called while a slow teacher answers.
    """
    wanted = objective(spec, dataset.task)
    student.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not wanted.reads:
        watched = _watch(student, (), wanted.reads, stack)
        return Side(_compiled(Learner(watched, wanted, {}, dataset.task, None), spec, device), None, None)
    if teacher is None:
        raise InvalidRequest(f"{spec.method} needs a teacher", field="distill.method")
    stages: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    if "tail" in wanted.reads and not differentiable(teacher.model):
        raise InvalidRequest(
            f"{teacher.name} has no gradients, and this method sends some through it; take one that compares logits, "
            "such as kd, dkd or dist",
            field="distill.method",
        )
    if wanted.reads & {"stages", "tail"}:
        stages = comparable(student, teacher.model)
    layers: tuple[Collection[int], Collection[int]] = ((), ())
    if "attention" in wanted.reads:
        layers = wanted.layers(len(attention_of(student, "student")), len(attention_of(teacher.model, "teacher")))
    # Given back as it came: another memory layout would answer a little differently.
    stack.callback(_give_back, teacher.model, where(teacher.model))
    teacher.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The tail is the teacher's; what the student would have to keep for one would keep its graph alive.
    ours = _watch(student, stages[0], wanted.reads - {"tail"}, stack, layers[0])
    theirs = _watch(teacher.model, stages[1], wanted.reads, stack, layers[1])
    adapters = _adapters(wanted, ours, theirs, teacher, dataset, spec, device)
    run = _compile(teacher.model, device) if _compiles(spec, device, wanted) else None
    online = Online(teacher, theirs, dataset.task, spec, device, run, alive)
    mixed = dataset.unlabelled is not None or dataset.task.truth == "teacher"
    learner = Learner(ours, wanted, adapters, dataset.task, online, mixed).to(device)
    source = where_idle(cached(online, teacher, dataset, spec, cache, device), stack)
    return Side(_compiled(learner, spec, device), source, teacher)


def _give_back(model: nn.Module, before: torch.device) -> None:
    model.to(device=before, memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _watch(
    model: nn.Module, stages: tuple[str, ...], reads: Set[Read], stack: ExitStack, layers: Collection[int] = ()
) -> Watched:
    watched = Watched(model, stages, reads, layers)
    stack.callback(watched.close)
    return watched


def _adapters(
    wanted: Objective,
    ours: Watched,
    theirs: Watched,
    teacher: Teacher,
    dataset: Dataset,
    spec: DistillSpec,
    device: str,
) -> dict[str, nn.Module]:
    """The losses' own modules, drawn from the training's seed, for the sizes both networks really show."""
    if all(term.loss.adapter is None for term in wanted.terms):
        return {}
    task = dataset.task
    x = domains.of(task).shape(task).zeros(2, device)
    modes = ours.model.training
    with torch.no_grad():
        student = ours.outputs(ours.model.eval()(x))
        taught = theirs.outputs(theirs.model(teacher.prepare(x)))
    ours.model.train(modes)
    sizes = Sizes(
        tuple(stage.size for stage in student.stages),
        tuple(stage.size for stage in taught.stages),
        0 if student.embedding_BD is None else student.embedding_BD.shape[1],
        0 if taught.embedding_BD is None else taught.embedding_BD.shape[1],
        task.classes,
        dataset.training_examples,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return {name: module.to(device) for name, module in wanted.adapters(sizes).items()}


def _compiles(spec: DistillSpec, device: str, wanted: Objective) -> bool:
    """Whether networks are compiled: hooks that keep maps would be traced away, so only where logits are all."""
    return (spec.compile == "on" or (spec.compile == "auto" and kind(device) == "cuda")) and not wanted.reads - {
        "logits"
    }


def _compiled(learner: Learner, spec: DistillSpec, device: str) -> Learner:
    if _compiles(spec, device, learner.objective):
        learner.run = _compile(learner.student, device)
    return learner


def _compile(model: nn.Module, device: str) -> Any:
    """On a GPU as CUDA graphs: a small network's kernels are shorter than their launches."""
    return torch.compile(model, mode="reduce-overhead" if kind(device) == "cuda" else "default")
