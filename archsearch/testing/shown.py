"""What two networks of any sizes might show a loss of a batch: noise, as large, dead or coarse as it is asked for."""

# B batch, C channels, H W space, K classes, D features

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from archsearch.distill.loss import Loss, LossInputs, Outputs, Sizes, Stage

Shape = tuple[int, int, int]  # C, H, W of a stage
Change = Callable[[Tensor], Tensor]

CLASSES, IMAGES = 10, 40
LABELS_B = (0, 1, 2, 3, 4, 0, 1, 7)
ROWS_B = (3, 31, 7, 12, 0, 39, 21, 8)
TEACHER = ((8, 16, 16), (12, 8, 8), (16, 4, 4))
ORDINARY = "convolutions"
# Pairs of networks: the student's stages and the teacher's.
NETWORKS: dict[str, tuple[tuple[Shape, ...], tuple[Shape, ...]]] = {
    ORDINARY: (((4, 8, 8), (6, 4, 4), (8, 2, 2)), TEACHER),
    "of the same sizes": (TEACHER, TEACHER),
    "alike": (((4, 8, 8), (6, 4, 4)), ((8, 8, 8), (12, 4, 4))),
    "convolutions by tokens": (((4, 8, 8), (6, 4, 4), (8, 2, 2)), ((10, 7, 7),) * 3),
    "tokens by convolutions": (((6, 5, 5),) * 4, ((4, 16, 16), (8, 8, 8), (12, 4, 4), (16, 1, 1))),
    "one stage of one value": (((3, 1, 1),), ((5, 1, 1),)),
    "not square": (((3, 4, 9), (3, 1, 6)), ((5, 6, 5), (7, 2, 2))),
}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(loss: Loss, networks: str = ORDINARY, *, change: Change = lambda x: x, seed: int = 0) -> LossInputs:
    """A batch of which the networks show what the loss says it reads, and its adapter.

    Args:
        change: Made to every tensor the networks show.
        seed: Of the adapter.
    """
    ours, theirs = NETWORKS[networks]
    torch.manual_seed(seed)
    adapter = None if loss.adapter is None else loss.adapter(_sizes(loss, ours, theirs), loss.settings())
    return LossInputs(
        student=outputs(loss, ours, change, seed=0),
        teacher=outputs(loss, theirs, change, seed=100) if loss.needs_teacher else None,
        y=labels(min(loss.tasks)),
        row_B=torch.tensor(ROWS_B),
        adapter=adapter,
        tail=_tail(theirs) if "tail" in loss.reads else None,
    )


def outputs(loss: Loss, stages: tuple[Shape, ...], change: Change = lambda x: x, *, seed: int) -> Outputs:
    """A network's side of a batch: the logits, and of the rest only what the loss says it reads."""
    size, width = len(LABELS_B), stages[-1][0]
    shown = stages if loss.reads & {"stages", "tail"} else ()
    return Outputs(
        change(3 * draw(seed, size, CLASSES)),
        tuple(Stage(change(draw(seed + i, size, *shape))) for i, shape in enumerate(shown, 1)),
        change(draw(seed + 10, size, width)) if "embedding" in loss.reads else None,
        change(draw(seed + 11, CLASSES, width)) if "head" in loss.reads else None,
    )


def labels(kind: str) -> Tensor:
    if kind == "classification":
        return torch.tensor(LABELS_B)
    return (draw(7, len(LABELS_B), CLASSES) > -0.5).float()


def _sizes(loss: Loss, ours: tuple[Shape, ...], theirs: tuple[Shape, ...]) -> Sizes:
    stages = loss.reads & {"stages", "tail"}
    dims = (ours[-1][0], theirs[-1][0]) if "embedding" in loss.reads else (0, 0)
    return Sizes(ours if stages else (), theirs if stages else (), *dims, CLASSES, IMAGES)


def _tail(stages: tuple[Shape, ...]) -> Callable[[int, Tensor], Tensor]:
    """The teacher's later layers: something small, smooth and its own for every stage."""

    def go_on(stage: int, map_BCHW: Tensor) -> Tensor:
        assert map_BCHW.shape[1:] == stages[stage], "the teacher goes on from maps of its own sizes"
        return map_BCHW.float().mean((2, 3)).tanh() @ draw(50 + stage, stages[stage][0], CLASSES)

    return go_on


def tensors(side: Outputs | None) -> Iterator[Tensor]:
    """All a network shows."""
    if side is not None:
        yield side.logits_BK
        yield from (stage.values for stage in side.stages)
        yield from (tensor for tensor in (side.embedding_BD, side.weight_KD) if tensor is not None)


def rebuilt(side: Outputs, new: list[Tensor]) -> Outputs:
    """The same kind of tensors as `tensors` gives, in their places."""
    left = iter(new)
    return Outputs(
        next(left),
        tuple(replace(stage, values=next(left)) for stage in side.stages),
        None if side.embedding_BD is None else next(left),
        None if side.weight_KD is None else next(left),
    )


def chosen(batch: LossInputs, images: list[int]) -> LossInputs:
    """The batch of these images."""

    def only(side: Outputs) -> Outputs:
        return rebuilt(side, [x if x is side.weight_KD else x[images] for x in tensors(side)])

    teacher = None if batch.teacher is None else only(batch.teacher)
    return replace(batch, student=only(batch.student), teacher=teacher, y=batch.y[images], row_B=batch.row_B[images])


@dataclass(frozen=True)
class Learned:
    """A loss's value on a batch and what is learned from it.

    Attributes:
        value: With its graph.
        leaves: The student's tensors, which a gradient was asked of.
        gradients: Of the leaves; None where the loss does not come by.
        adapter: The module that was used, and its trained parameters' gradients.
    """

    value: Tensor
    leaves: list[Tensor]
    gradients: list[Tensor | None]
    adapter: nn.Module | None
    adapter_gradients: list[Tensor | None]

    @property
    def anything(self) -> bool:
        """Whether the student would move."""
        return any(gradient is not None and bool(gradient.any()) for gradient in self.gradients)

    def check(self) -> None:
        """A finite float32 scalar with finite gradients, some of which the student gets."""
        assert self.value.shape == ()
        assert self.value.dtype == torch.float32
        assert self.value.isfinite()
        assert any(gradient is not None for gradient in self.gradients), "nothing reaches the student"
        for gradient in (*self.gradients, *self.adapter_gradients):
            assert gradient is None or gradient.isfinite().all()


def value_of(loss: Loss, batch: LossInputs) -> Tensor:
    """The loss as if it had never been asked before: what it keeps and what it draws starts anew."""
    torch.manual_seed(1)
    return loss.compute(replace(batch, adapter=copy.deepcopy(batch.adapter)), loss.settings())


def learn(loss: Loss, batch: LossInputs) -> Learned:
    """The same, with gradients."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors(batch.student)]
    adapter = copy.deepcopy(batch.adapter)
    trained = [] if adapter is None else [p for p in adapter.parameters() if p.requires_grad]
    torch.manual_seed(1)
    value = loss.compute(replace(batch, student=rebuilt(batch.student, leaves), adapter=adapter), loss.settings())
    found = torch.autograd.grad(value, [*leaves, *trained], allow_unused=True, retain_graph=True)
    return Learned(value, leaves, list(found[: len(leaves)]), adapter, list(found[len(leaves) :]))
