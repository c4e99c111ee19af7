"""A teacher made ready to be cut, and students that begin with what is cut out of it."""

# B batch, K classes

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from archsearch import domains
from archsearch.data.balanced import balanced_rows
from archsearch.data.task import Dataset, Task
from archsearch.device import where
from archsearch.inherit import importance
from archsearch.inherit.families import layout
from archsearch.inherit.importance import unlearned
from archsearch.inherit.layout import Layout
from archsearch.inherit.repair import repair, statistics, watch
from archsearch.inherit.slices import Cut, Scissors, Whole, cut
from archsearch.request import Architecture
from archsearch.spaces import Space, of_teacher

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.teachers import Teacher

# Examples that tell what matters in a teacher, and what is left after a cut.
EXAMPLES = 256


@dataclass(frozen=True)
class Inheritance:
    """A teacher ready to be cut.

    Attributes:
        space: Of its own kind; the largest member is the teacher's size.
        task: As its students read it: their examples are normalised as the teacher's are.
        model: The teacher as the largest member, in eval mode.
        x: Examples of the training split, as students are shown them.
        logits_BK: What the teacher itself answers to them.
    """

    space: Space
    task: Task
    model: nn.Module
    whole: Whole
    x: Tensor
    logits_BK: Tensor

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
            mend: Whether the layers are fitted to what the teacher's put out, rather than only normalised anew.

        Raises:
            Unsliceable: It is no part of the teacher.
        """
        drawn = layout(model)
        done = cut(self.whole, model, drawn)
        if done.exact:
            return done
        look = partial(_show, model, self.x.to(where(model)))
        if not mend:
            statistics(model, look)
            return done
        scissors = Scissors(self.whole, drawn)
        layers = mendable(model, drawn, scissors)
        seen = watch(self.model, dict(layers.values()), partial(_show, self.model, self.x))
        repair(model, {own: seen[theirs] for own, (theirs, _) in layers.items()}, look)
        return done

    def nats(self, model: nn.Module) -> float:
        """Mean KL(teacher ‖ student) in nats over the examples; of many labels an example, summed over them."""
        with unlearned(model):
            student_BK = _show(model, self.x.to(where(model)))
        return divergence(self.logits_BK, student_BK.float().cpu(), self.task.kind)


def make_ready(teacher: Teacher, dataset: Dataset, *, examples: int = EXAMPLES) -> Inheritance:
    """Look at a teacher once, on some examples of the training split, of every class alike.

    Raises:
        InvalidRequest: It is of no family here.
        Unsliceable: No smaller network can be cut out of it.
    """
    import torch

    domain = domains.of(dataset.task)
    task = domain.inherits(dataset.task, teacher)
    space = of_teacher(teacher.model, task)
    model = space.build(space.largest(task), task).eval()
    domain.take_over(teacher, model)
    shown = dataset.train.examples(balanced_rows(dataset.train.y_N, min(examples, len(dataset.train)), 0))
    with torch.no_grad():
        logits_BK = teacher.logits(shown.to(where(teacher.model))).float().cpu()
    x = domain.prepare(shown, task)
    drawn, look = layout(model), partial(_show, model, x)
    with torch.no_grad():
        order = importance.order(model, drawn, look)
        found = importance.channels(model, drawn, look)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return Inheritance(
        of_teacher(teacher.model, task, order), task, model, Whole(state, drawn, found, order), x, logits_BK
    )


def mendable(model: nn.Module, drawn: Layout, scissors: Scissors) -> dict[str, tuple[str, Tensor | None]]:
    """The layers of a student that can be fitted to one of the teacher's: dense ones; with the other's name, and which
    of its outputs they are."""
    from torch import nn

    found: dict[str, tuple[str, Tensor | None]] = {}
    aside = {reader.module for reader in drawn.readers if reader.aside}
    for name, module in model.named_modules():
        dense = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        weight = f"{name}.weight"
        if dense and name not in aside and weight in drawn.axes:
            theirs = scissors.named(weight)
            if theirs is not None:
                found[name] = (theirs.removesuffix(".weight"), scissors.rows(weight, module.weight.shape[0]))
    return found


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


def _show(model: nn.Module, x: Tensor) -> Tensor:
    answers: Tensor = model(x)
    return answers
