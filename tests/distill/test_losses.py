"""What every registered loss promises, whatever it reads; worked values are in losses/, one file a loss."""

# B batch, C channels, H W space, K classes, D features

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from archsearch.data import Task
from archsearch.distill.loss import Loss, LossInputs, Outputs, Sizes, losses
from archsearch.errors import UnknownName
from archsearch.kernels import label_loss

CLASSES, IMAGES = 10, 40
STUDENT = ((4, 8, 8), (6, 4, 4), (8, 2, 2))
TEACHER = ((8, 16, 16), (12, 8, 8), (16, 4, 4))
LABELS_B = (0, 1, 2, 3, 4, 0, 1, 7)


ADAPTED = [loss.name for loss in losses if loss.adapter is not None]
OF_LOGITS = [loss.name for loss in losses if not loss.reads - {"logits"}]
KINDS = [(loss.name, kind) for loss in losses for kind in sorted(loss.tasks)]


@pytest.fixture(params=losses.names())
def loss(request: pytest.FixtureRequest) -> Loss:
    return losses.get(request.param)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outputs(loss: Loss, seed: int, maps: tuple[tuple[int, int, int], ...], batch: int = len(LABELS_B)) -> Outputs:
    """A network's side of a batch: the logits, and of the rest only what the loss says it reads."""
    stages, dim = loss.reads & {"stages", "tail"}, maps[-1][0]
    return Outputs(
        3 * draw(seed, batch, CLASSES),
        tuple(draw(seed + i, batch, *size) for i, size in enumerate(maps, 1)) if stages else (),
        draw(seed + 10, batch, dim) if "embedding" in loss.reads else None,
        draw(seed + 11, CLASSES, dim) if "head" in loss.reads else None,
    )


def labels(kind: str) -> Tensor:
    if kind == "classification":
        return torch.tensor(LABELS_B)
    return (draw(7, len(LABELS_B), CLASSES) > -0.5).float()


def go_on(stage: int, map_BCHW: Tensor) -> Tensor:
    """The teacher's later layers: something small, smooth and its own for every stage."""
    return map_BCHW.float().mean((2, 3)).tanh() @ draw(50 + stage, TEACHER[stage][0], CLASSES)


def sizes(loss: Loss, student: tuple[tuple[int, int, int], ...], teacher: tuple[tuple[int, int, int], ...]) -> Sizes:
    stages = loss.reads & {"stages", "tail"}
    dims = (student[-1][0], teacher[-1][0]) if "embedding" in loss.reads else (0, 0)
    return Sizes(student if stages else (), teacher if stages else (), *dims, CLASSES, IMAGES)


def adapted(loss: Loss, student: tuple[tuple[int, int, int], ...] = STUDENT) -> nn.Module | None:
    torch.manual_seed(0)
    return None if loss.adapter is None else loss.adapter(sizes(loss, student, TEACHER), loss.settings())


def batch_for(loss: Loss, student: tuple[tuple[int, int, int], ...] = STUDENT) -> LossInputs:
    y = labels(min(loss.tasks))
    teacher = outputs(loss, 100, TEACHER) if loss.needs_teacher else None
    tail = go_on if "tail" in loss.reads else None
    row_B = torch.tensor([3, 31, 7, 12, 0, 39, 21, 8])
    return LossInputs(outputs(loss, 0, student), teacher, y, row_B, 1.0, adapted(loss, student), tail)


def value_of(loss: Loss, batch: LossInputs) -> Tensor:
    """The loss as if it had never been asked before: what it keeps and what it draws starts anew."""
    torch.manual_seed(1)
    return loss.compute(replace(batch, adapter=copy.deepcopy(batch.adapter)), loss.settings())


def tensors(side: Outputs | None) -> Iterator[Tensor]:
    if side is not None:
        yield side.logits_BK
        yield from side.maps
        yield from (tensor for tensor in (side.embedding_BD, side.weight_KD) if tensor is not None)


def rebuilt(side: Outputs, new: list[Tensor]) -> Outputs:
    """The same kind of tensors as `tensors` gives, in their places."""
    left = iter(new)
    return Outputs(
        next(left),
        tuple(next(left) for _ in side.maps),
        None if side.embedding_BD is None else next(left),
        None if side.weight_KD is None else next(left),
    )


def learned_from(loss: Loss, batch: LossInputs) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Value, the student's tensors, and the gradient of each (zeros where there is none)."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors(batch.student)]
    value = value_of(loss, replace(batch, student=rebuilt(batch.student, leaves)))
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
    return value.detach(), [x.detach() for x in leaves], gradients


def rows(batch: LossInputs, chosen: list[int]) -> LossInputs:
    """The batch of these images."""

    def only(side: Outputs | None) -> Outputs | None:
        if side is None:
            return None
        new = [x if x is side.weight_KD else x[chosen] for x in tensors(side)]
        return rebuilt(side, new)

    student = only(batch.student)
    assert student is not None
    return replace(batch, student=student, teacher=only(batch.teacher), y=batch.y[chosen], row_B=batch.row_B[chosen])


def test_it_is_documented(loss: Loss) -> None:
    assert len(loss.doc) > 10
    assert loss.doc.endswith(".")
    assert loss.source
    assert loss.tasks <= {"classification", "multilabel"}
    assert loss.tasks
    assert loss.weight > 0
    assert loss.labels >= 0


def test_its_settings_are_described_and_have_defaults(loss: Loss) -> None:
    loss.settings()
    for name, field in loss.settings.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_a_finite_scalar_with_a_finite_gradient(loss: Loss, scale: float, dtype: torch.dtype) -> None:
    batch = batch_for(loss)

    def as_asked(side: Outputs) -> Outputs:
        new = [(x * scale if x is side.logits_BK else x).to(dtype) for x in tensors(side)]
        return rebuilt(side, new)

    teacher = None if batch.teacher is None else as_asked(batch.teacher)
    value, _, gradients = learned_from(loss, replace(batch, student=as_asked(batch.student), teacher=teacher))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    # Probabilities of logits as large as that may be as good as 0 and 1, and then nothing is learned of them.
    assert scale > 1 or any(gradient.any() for gradient in gradients)


def test_a_step_against_its_gradient_lowers_it(loss: Loss) -> None:
    batch = batch_for(loss)
    value, leaves, gradients = learned_from(loss, batch)
    size, slope = (math.sqrt(sum(float(x.square().sum()) for x in group)) for group in (leaves, gradients))
    step = 3e-3 * size / slope
    moved = rebuilt(batch.student, [x - step * g for x, g in zip(leaves, gradients, strict=True)])
    assert value_of(loss, replace(batch, student=moved)) < value


@pytest.mark.parametrize("name", ADAPTED)
def test_its_adapter_learns_if_it_can(name: str) -> None:
    loss = losses.get(name)
    batch = batch_for(loss)
    assert batch.adapter is not None
    learning = [p for p in batch.adapter.parameters() if p.requires_grad]
    if learning:
        torch.manual_seed(1)
        torch.autograd.backward(loss.compute(batch, loss.settings()))
        assert all(p.grad is None or p.grad.isfinite().all() for p in learning)
        assert any(p.grad is not None and p.grad.any() for p in learning)


def test_it_asks_the_teacher_exactly_when_it_says_so(loss: Loss) -> None:
    batch = batch_for(loss)
    if not loss.needs_teacher:
        assert value_of(loss, replace(batch, teacher=outputs(loss, 200, TEACHER))).equal(value_of(loss, batch))
        return
    assert not value_of(loss, replace(batch, teacher=outputs(loss, 200, TEACHER))).equal(value_of(loss, batch))


def test_it_is_finite_from_the_first_step_on(loss: Loss) -> None:
    value, _, gradients = learned_from(loss, replace(batch_for(loss), done=0.0))
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_it_does_not_depend_on_the_order_of_the_batch(loss: Loss) -> None:
    batch = batch_for(loss)
    value = value_of(loss, batch)
    torch.testing.assert_close(value_of(loss, rows(batch, [5, 3, 7, 1, 0, 2, 6, 4])), value, rtol=1e-4, atol=1e-6)


def test_it_finds_the_same_again(loss: Loss) -> None:
    assert value_of(loss, batch_for(loss)).equal(value_of(loss, batch_for(loss)))


def test_it_leaves_its_inputs_alone(loss: Loss) -> None:
    batch, untouched = batch_for(loss), batch_for(loss)
    learned_from(loss, batch)
    for side, before in ((batch.student, untouched.student), (batch.teacher, untouched.teacher)):
        assert all(x.equal(y) for x, y in zip(tensors(side), tensors(before), strict=True))
    assert batch.y.equal(untouched.y)
    assert batch.row_B.equal(untouched.row_B)


def test_one_image_is_enough_not_to_break_it(loss: Loss) -> None:
    value, _, gradients = learned_from(loss, rows(batch_for(loss), [2]))
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_networks_of_the_same_sizes_are_compared_too(loss: Loss) -> None:
    value, _, gradients = learned_from(loss, batch_for(loss, TEACHER))
    assert value.isfinite()
    assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_what_is_made_of_logits_alone_survives_half_precision_around_it(name: str) -> None:
    loss = losses.get(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = value_of(loss, batch_for(loss))
    assert value.equal(value_of(loss, batch_for(loss)))


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_it_takes_the_labels_of_the_tasks_it_names(name: str, kind: str) -> None:
    loss = losses.get(name)
    assert value_of(loss, replace(batch_for(loss), y=labels(kind))).isfinite()


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_it_refuses_no_ordinary_task_and_says_what_to_take_for_two_classes(name: str, kind: str) -> None:
    loss = losses.get(name)
    assert loss.refuse(_task(CLASSES, kind)) is None
    if reason := loss.refuse(_task(2, kind)):
        other = losses.get(reason.rpartition("use ")[2])
        assert kind in other.tasks
        assert other.refuse(_task(2, kind)) is None


def _task(classes: int, kind: str) -> Task:
    return Task(classes, 3, 8, 8, (0.5,) * 3, (0.25,) * 3, kind=kind)


def test_an_unknown_loss_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'dkd'"):
        losses.get("dkdd", field="distill.method")


def test_the_labels_loss_by_hand() -> None:
    """Logits (ln 3, 0): with one label p = (3/4, 1/4); with many, labels are asked one by one, 3/4 and 1/2.

    Images are averaged, the labels of one are summed.
    """
    logits_BK = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    one = (math.log(4 / 3) + math.log(4)) / 2
    assert label_loss(logits_BK, torch.tensor([0, 1])).item() == pytest.approx(one)
    many = (math.log(4 / 3) + math.log(2) + math.log(4) + math.log(2)) / 2
    assert label_loss(logits_BK, torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == pytest.approx(many)
