"""A teacher made ready to be cut, and students that begin with what is cut out of it."""

# B batch, K classes

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from archsearch import domains
from archsearch.data.balanced import balanced_rows, drawn_rows
from archsearch.data.task import Dataset, Task
from archsearch.device import where
from archsearch.inherit import importance
from archsearch.inherit.families import layout
from archsearch.inherit.layout import Layout
from archsearch.inherit.repair import Record, mend, record
from archsearch.inherit.shown import Shown
from archsearch.inherit.slices import Cut, Scissors, Whole, cut
from archsearch.request import Architecture
from archsearch.spaces import Space, of_teacher
from archsearch.teachers import input_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.teachers import Teacher

# Examples that tell what matters in a teacher and what is left after a cut; of these the share that only tells what is
# left, and how many that are at least, where that is no more than half.
EXAMPLES = 256
_JUDGED, _LEAST_JUDGED = 0.25, 64
# All are looked at together, in so much memory (bytes); of large ones there are fewer, down to so many.
_ROOM, _FEWEST = 2**31, 96


@dataclass(frozen=True)
class Inheritance:
    """A teacher ready to be cut. It lies where the teacher does.

    Attributes:
        space: Of its own kind; the largest member is the teacher's size.
        task: As its students read it: their examples are normalised as the teacher's are.
        model: The teacher as the largest member, in eval mode.
        shown: Examples of the training split, in random order, that its students are fitted on.
        judged: Others, that tell what is left of it.
        logits_BK: What the teacher itself answers to these.
    """

    space: Space
    task: Task
    model: nn.Module
    whole: Whole
    shown: Shown
    judged: Shown
    logits_BK: Tensor

    @cached_property
    def record(self) -> Record:
        return record(self.model, self.whole.layout, self.shown)

    def space_of(self, *, mend: bool = True) -> Space:
        """The space of students that begin with the teacher's weights."""

        def weights(model: nn.Module, _: Architecture) -> None:
            self.begin(model, mend=mend)

        return replace(
            self.space, start="teacher", weights=weights, reads=lambda _architecture, _task: self.task, learns_from=0
        )

    def begin(self, model: nn.Module, *, mend: bool = True) -> Cut:
        """Give a member of the space, fresh from noise, its part of the teacher's weights.

        Args:
            mend: Whether the layers are fitted to what the teacher's read, rather than norms' running statistics alone.

        Raises:
            Unsliceable: It is no part of the teacher.
        """
        drawn, home = layout(model), where(model)
        done = cut(self.whole, model, drawn)
        if not done.exact:
            self._mend(model.to(where(self.model)), done, drawn, layers=mend)
            model.to(home)
        return done

    def nats(self, model: nn.Module) -> float:
        """Mean KL(teacher ‖ student) in nats over examples that the student was not fitted on; of many labels an
        example, summed over them."""
        home = where(model)
        student_BK = self.judged.answers(model.to(where(self.model))).float().cpu()
        model.to(home)
        return divergence(self.logits_BK, student_BK, self.task.kind)

    def _mend(self, model: nn.Module, done: Cut, drawn: Layout, *, layers: bool) -> None:
        mend(model, done, Scissors(self.whole, drawn), self.record, self.shown, layers=layers)


def make_ready(teacher: Teacher, dataset: Dataset, *, examples: int = EXAMPLES) -> Inheritance:
    """Look at a teacher once, on some examples of the training split, of every class alike.

    Raises:
        InvalidRequest: It is of no family here.
        Unsliceable: No smaller network can be cut out of it.
    """
    import torch

    domain, device = domains.of(dataset.task), where(teacher.model)
    task = domain.inherits(dataset.task, teacher)
    space = of_teacher(teacher.model, task)
    model = space.build(space.largest(task), task)
    domain.take_over(teacher, model)
    model.to(device).eval().requires_grad_(False)
    drawn = layout(model)

    def show(examples: Tensor) -> Shown:
        x = domain.prepare(examples, task).to(device)
        return Shown(x, None if drawn.tokens is None else drawn.tokens(x))

    one = input_bytes(model, domain.shape(task))
    fitted, judged = _examples(dataset, min(examples, max(_FEWEST, _ROOM // (one or 1))))
    with torch.no_grad():
        logits_BK = teacher.logits(judged).float().cpu()
    shown = show(fitted)
    order = importance.order(model, drawn, shown)
    channels = importance.channels(model, drawn, shown)
    whole = Whole({name: value.clone() for name, value in model.state_dict().items()}, drawn, channels, order)
    return Inheritance(of_teacher(teacher.model, task, order), task, model, whole, shown, show(judged), logits_BK)


def divergence(teacher_BK: Tensor, student_BK: Tensor, kind: str) -> float:
    """Mean KL(teacher ‖ student) in nats: of one distribution over the classes, or summed over labels of their own."""
    from torch.nn.functional import kl_div, log_softmax, logsigmoid

    if kind != "multilabel":
        return float(
            kl_div(log_softmax(student_BK, 1), log_softmax(teacher_BK, 1), log_target=True, reduction="batchmean")
        )
    total = 0.0
    for sign in (1, -1):
        own, theirs = logsigmoid(sign * student_BK), logsigmoid(sign * teacher_BK)
        total += float((theirs.exp() * (theirs - own)).sum(dim=1).mean())
    return total


def _examples(dataset: Dataset, most: int) -> tuple[Tensor, Tensor]:
    """Examples to fit on, in random order, and others to judge by; every class alike in both."""
    import torch

    split, (rows, others) = dataset.train, drawn_rows(dataset, min(most, dataset.training_examples), 0)
    count = len(rows)
    judged = max(int(_JUDGED * count), min(_LEAST_JUDGED, count // 2))
    held = rows[balanced_rows(split.y_N[rows], judged, 1)]
    own, judges = split.take(np.setdiff1d(rows, held)), split.take(held)
    if dataset.unlabelled is not None and len(others):  # nothing here asks for labels
        apart, some = dataset.unlabelled.take(others), int(_JUDGED * len(others))
        own, judges = own.joined([apart.take(slice(some, None))]), judges.joined([apart.take(slice(0, some))])
    fitted, judging = own.examples(slice(None)), judges.examples(slice(None))
    # Data may be in the order of their classes, and the last of these tell how strongly a layer is fitted.
    return fitted[torch.randperm(len(fitted), generator=torch.Generator().manual_seed(0))], judging
