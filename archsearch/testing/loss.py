"""What every loss promises, whatever it reads: of any two networks, activations of any size, one image or many."""

# B batch, C channels, H W space, K classes, T tokens

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from archsearch.data.task import UNKNOWN, Kind
from archsearch.distill.loss import Loss, LossInputs, Outputs, losses
from archsearch.distill.objective import Objective, Term
from archsearch.domains.images.task import ImageTask
from archsearch.domains.text.task import TextTask
from archsearch.errors import InvalidRequest
from archsearch.testing.shown import (
    CLASSES,
    NETWORKS,
    TEXTS_BETWEEN,
    Change,
    alike,
    both,
    chosen,
    each_decided_twice,
    inputs,
    labels,
    learn,
    networks_for,
    ordinary,
    outputs,
    padded,
    rebuilt,
    tensors,
    value_of,
)

KINDS = ("classification", "multilabel")
ACTIVATIONS: dict[str, Change] = {
    "large": lambda x: 1e3 * x,
    "tiny": lambda x: 1e-6 * x,
    "dead": torch.zeros_like,
    "constant": torch.ones_like,
    "positive": torch.relu,
}
HALVES = (torch.bfloat16, torch.float16)


class LossContract:
    """Subclass it as `Test…` and name the losses.

    Attributes:
        losses: Whom the tests are for.
        indifferent: A loss and a pair of networks (of `archsearch.testing.shown.NETWORKS`) that are always equal to it.
    """

    losses: ClassVar[Iterable[Loss]] = ()
    indifferent: ClassVar[Collection[tuple[str, str]]] = ()

    def _each(self, subtests: pytest.Subtests) -> Iterator[tuple[Loss, AbstractContextManager[None]]]:
        """Every loss, and the subtest to look at it in."""
        return ((loss, subtests.test(loss=loss.name)) for loss in self.losses)

    def _between(self, subtests: pytest.Subtests) -> Iterator[tuple[Loss, str, AbstractContextManager[None]]]:
        """Every loss with every pair of networks that are not the same to it."""
        for loss in self.losses:
            for networks in networks_for(loss):
                yield loss, networks, subtests.test(loss=loss.name, networks=networks)

    def test_it_is_documented(self, subtests: pytest.Subtests) -> None:
        assert list(self.losses), "`losses` names those to test"
        for loss, subtest in self._each(subtests):
            with subtest:
                assert len(loss.doc) > 10
                assert loss.doc.endswith(".")
                assert loss.source
                assert loss.tasks <= {*KINDS}
                assert loss.tasks
                assert loss.weight > 0
                assert loss.labels >= 0

    def test_its_settings_are_described_and_have_defaults(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                loss.settings()
                for name, field in loss.settings.model_fields.items():
                    assert field.description, name

    def test_it_is_a_finite_scalar_with_a_finite_gradient(self, subtests: pytest.Subtests) -> None:
        for loss in self.losses:
            for scale in (1.0, 1e4):
                for dtype in (torch.float32, torch.bfloat16):
                    with subtests.test(loss=loss.name, scale=scale, dtype=dtype):
                        learned = learn(loss, _with_logits(inputs(loss), scale, dtype))
                        learned.check()
                        # Probabilities of logits as large as that may be as good as 0 and 1, and teach nothing then.
                        assert scale > 1 or learned.anything

    def test_a_step_against_its_gradient_lowers_it(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                batch = inputs(loss)
                learned = learn(loss, batch)
                leaves = [leaf.detach() for leaf in learned.leaves]
                gradients = [
                    torch.zeros_like(x) if g is None else g for x, g in zip(leaves, learned.gradients, strict=True)
                ]
                step = 3e-3 * _length(leaves) / _length(gradients)
                moved = [x - step * g for x, g in zip(leaves, gradients, strict=True)]
                assert value_of(loss, replace(batch, student=rebuilt(batch.student, moved))) < learned.value

    def test_its_adapter_learns_if_it_can(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                gradients = learn(loss, inputs(loss)).adapter_gradients
                assert not gradients or any(g is not None and g.any() for g in gradients)
                assert all(g is None or g.isfinite().all() for g in gradients)

    def test_it_asks_the_teacher_exactly_when_it_says_so(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                batch = inputs(loss)
                other = replace(batch, teacher=outputs(loss, NETWORKS[ordinary(loss)], 1, seed=200))
                assert value_of(loss, other).equal(value_of(loss, batch)) != loss.needs_teacher

    def test_its_gradient_reaches_the_student_and_the_adapter_alone(self, subtests: pytest.Subtests) -> None:
        """The teacher stays as it is, and nothing is trained that no checkpoint would keep."""
        for loss, subtest in self._each(subtests):
            with subtest:
                batch = inputs(loss)
                learned = learn(loss, batch)
                trained = [*learned.leaves, *([] if learned.adapter is None else learned.adapter.parameters())]
                strangers = [x.shape for x in _reached(learned.value) if not any(x is known for known in trained)]
                assert strangers == [], "tensors beside the student's and the adapter's get a gradient"
                assert not any(tensor.requires_grad for tensor in tensors(batch.teacher))

    def test_it_is_finite_from_the_first_step_on(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                learn(loss, replace(inputs(loss), done=0.0)).check()

    def test_it_does_not_depend_on_the_order_of_the_batch(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                batch = inputs(loss)
                other = value_of(loss, chosen(batch, [5, 3, 7, 1, 0, 2, 6, 4]))
                torch.testing.assert_close(other, value_of(loss, batch), rtol=1e-4, atol=1e-6)

    def test_it_reads_labels_exactly_when_it_says_so(self, subtests: pytest.Subtests) -> None:
        """At once, or of examples it has seen before."""
        for loss, subtest in self._each(subtests):
            with subtest:
                batch = inputs(loss)
                other = replace(batch, targets_M=batch.targets_M.roll(1, dims=0))
                assert _seen_again(loss, other).equal(_seen_again(loss, batch)) != loss.by_labels

    def test_examples_without_labels_are_learned_from(self, subtests: pytest.Subtests) -> None:
        """As if what the teacher answers were the label; where no teacher is asked, the others alone, over all."""
        for loss, subtest in self._each(subtests):
            with subtest:
                batch = inputs(loss)
                known_B = torch.arange(len(batch.row_B)) % 4 != 1
                if batch.teacher is not None:
                    wanted = value_of(loss, replace(batch, targets_M=_answered(batch, known_B)))
                else:
                    wanted = known_B.float().mean() * value_of(loss, chosen(batch, known_B.nonzero()[:, 0].tolist()))
                torch.testing.assert_close(_partly_labelled(loss, batch, known_B), wanted)

    def test_it_finds_the_same_again(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                assert value_of(loss, inputs(loss)).equal(value_of(loss, inputs(loss)))

    def test_it_leaves_its_inputs_alone(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                batch, untouched = inputs(loss), inputs(loss)
                learn(loss, batch)
                for side, before in ((batch.student, untouched.student), (batch.teacher, untouched.teacher)):
                    assert all(x.equal(y) for x, y in zip(tensors(side), tensors(before), strict=True))
                assert batch.targets_M.equal(untouched.targets_M)
                assert batch.row_B.equal(untouched.row_B)

    def test_any_two_networks_are_compared(self, subtests: pytest.Subtests) -> None:
        for loss, networks, subtest in self._between(subtests):
            with subtest:
                learned = learn(loss, inputs(loss, networks))
                learned.check()
                if (loss.name, networks) in self.indifferent:
                    assert learned.value == 0
                else:
                    assert learned.value > 0
                    assert learned.anything

    def test_one_image_is_enough_not_to_break_it(self, subtests: pytest.Subtests) -> None:
        for loss, networks, subtest in self._between(subtests):
            with subtest:
                learn(loss, chosen(inputs(loss, networks), [2])).check()

    def test_an_example_may_be_many_decisions(self, subtests: pytest.Subtests) -> None:
        """As many rows of answers as there are decisions; who needs labels of whole examples says so."""
        for loss, subtest in self._each(subtests):
            if "tail" not in loss.reads:
                with subtest, suppress(InvalidRequest):
                    twice = each_decided_twice(inputs(loss))
                    learned = learn(loss, twice)
                    learned.check()
                    if not loss.reads - {"logits"}:
                        assert learned.value.equal(value_of(loss, replace(twice, example_M=None)))

    def test_padding_counts_for_nothing(self, subtests: pytest.Subtests) -> None:
        """Neither what networks show there nor how much of it there is."""
        for loss, networks, subtest in self._between(subtests):
            if networks in TEXTS_BETWEEN:
                with subtest:
                    batch = inputs(loss, networks)
                    for by, value in ((0, 1e4), (3, 0.0)):
                        learned = learn(loss, padded(batch, by, value))
                        torch.testing.assert_close(learned.value, value_of(loss, batch), rtol=1e-5, atol=1e-7)
                        learned.check()

    def test_activations_of_any_size_are_taken(self, subtests: pytest.Subtests) -> None:
        for loss in self.losses:
            for name, change in ACTIVATIONS.items():
                with subtests.test(loss=loss.name, activations=name):
                    learn(loss, inputs(loss, alike(loss), change=change)).check()

    def test_a_dead_student_of_a_living_teacher_is_taken(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            with subtest:
                living, dead = inputs(loss, alike(loss)), inputs(loss, alike(loss), change=torch.zeros_like)
                learn(loss, replace(living, student=dead.student)).check()

    def test_half_precision_is_computed_in_full(self, subtests: pytest.Subtests) -> None:
        """As exact as the same values in float32, to the last bit."""
        for loss in self.losses:
            for dtype in HALVES:
                with subtests.test(loss=loss.name, dtype=dtype):
                    half, full = (inputs(loss, alike(loss), change=change) for change in _rounded(dtype))
                    learned = learn(loss, half)
                    learned.check()
                    assert learned.value.equal(value_of(loss, full))

    def test_what_is_made_of_logits_alone_survives_half_precision_around_it(self, subtests: pytest.Subtests) -> None:
        for loss, subtest in self._each(subtests):
            if not loss.reads - {"logits"}:
                with subtest:
                    with torch.autocast("cpu", dtype=torch.bfloat16):
                        value = value_of(loss, inputs(loss))
                    assert value.equal(value_of(loss, inputs(loss)))

    def test_what_an_adapter_learns_and_remembers_is_kept_with_it(self, subtests: pytest.Subtests) -> None:
        """Loaded into an adapter of another seed, its state gives the same value."""
        for loss, subtest in self._each(subtests):
            with subtest:
                batch, other = inputs(loss, alike(loss)), inputs(loss, alike(loss), seed=1)
                assert (batch.adapter is None) == (loss.adapter is None)
                if batch.adapter is not None and other.adapter is not None:
                    other.adapter.load_state_dict(batch.adapter.state_dict())
                    with torch.no_grad():
                        assert value_of(loss, replace(batch, adapter=other.adapter)).equal(value_of(loss, batch))

    def test_it_takes_the_labels_of_the_tasks_it_names(self, subtests: pytest.Subtests) -> None:
        for loss in self.losses:
            for kind in loss.tasks:
                with subtests.test(loss=loss.name, kind=kind):
                    learn(loss, replace(inputs(loss), targets_M=labels(kind))).check()
                    if kind == "multilabel":  # images without any
                        learn(loss, replace(inputs(loss), targets_M=torch.zeros_like(labels(kind)))).check()

    def test_it_refuses_no_ordinary_task_and_says_what_to_take_for_two_classes(self, subtests: pytest.Subtests) -> None:
        for loss in self.losses:
            for kind in loss.tasks:
                with subtests.test(loss=loss.name, kind=kind):
                    tasks = [task for task in _tasks(CLASSES, kind) if loss.unseen(task) is None]
                    assert tasks, "the networks of no task show what it looks at"
                    for task in tasks:
                        assert loss.refuse(task) is None
                        two = replace(task, classes=2)
                        if reason := loss.refuse(two):
                            other = losses.get(reason.rpartition("use ")[2])
                            assert kind in other.tasks
                            assert other.refuse(two) is None
                            assert other.unseen(two) is None


def _seen_again(loss: Loss, batch: LossInputs) -> Tensor:
    """Of a batch that was learned from before, by what may remember that."""
    torch.manual_seed(1)
    again = replace(batch, adapter=copy.deepcopy(batch.adapter))
    loss.compute(again, loss.settings())
    return loss.compute(again, loss.settings())


def _answered(batch: LossInputs, known_B: Tensor) -> Tensor:
    """Labels, and what the teacher answers in the place of others."""
    assert batch.teacher is not None
    y, answers_BK = batch.targets_M, batch.teacher.answers_MK
    taught = answers_BK.argmax(1) if y.ndim == 1 else (answers_BK > 0).float()
    return torch.where(known_B if y.ndim == 1 else known_B[:, None], y, taught)


def _partly_labelled(loss: Loss, batch: LossInputs, known_B: Tensor) -> Tensor:
    """The loss as a training asks for it, where some examples have no label."""
    rows = known_B if batch.targets_M.ndim == 1 else known_B[:, None]
    blank = batch.targets_M.masked_fill(~rows, UNKNOWN)
    adapters = {} if batch.adapter is None else {loss.name: copy.deepcopy(batch.adapter)}
    whole = Objective((Term(loss, loss.settings(), 1.0),), 0.0)
    torch.manual_seed(1)
    return whole.value(replace(batch, targets_M=blank, known_M=known_B), adapters).total


def _with_logits(batch: LossInputs, scale: float, dtype: torch.dtype) -> LossInputs:
    """The batch in another type, its logits so many times as large."""

    def asked(side: Outputs) -> Outputs:
        return rebuilt(side, [(x * scale if x is side.answers_MK else x).to(dtype) for x in tensors(side)])

    return both(batch, asked)


def _length(parts: list[Tensor]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in parts))


def _reached(value: Tensor) -> list[Tensor]:
    """Every tensor that a backward pass from `value` would leave a gradient in."""
    found, seen, left = [], set(), [value.grad_fn]
    while left:
        node: Any = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
            found += [node.variable] if hasattr(node, "variable") else []
    return found


def _rounded(dtype: torch.dtype) -> tuple[Change, Change]:
    """Values of a type, in it and in float32."""
    return lambda x: x.to(dtype), lambda x: x.to(dtype).float()


def _tasks(classes: int, kind: str) -> tuple[ImageTask, TextTask]:
    """Of images and of texts."""
    known: Kind = "multilabel" if kind == "multilabel" else "classification"
    images = ImageTask(classes, 3, 8, 8, (0.5,) * 3, (0.25,) * 3, kind=known)
    return images, TextTask(classes, 8, 100, 0, pair=False, kind=known)
