"""What two networks of any sizes might show a loss of a batch: noise, as large, dead or coarse as it is asked for."""

# B batch, C channels, H W space, K classes, D features, N T tokens

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from archsearch.distill.loss import Attention, Loss, LossInputs, Outputs, Sizes, Stage

Shape = tuple[int, int, int]  # C, H, W of a stage
Change = Callable[[Tensor], Tensor]

CLASSES, IMAGES = 10, 40
LABELS_B = (0, 1, 2, 3, 4, 0, 1, 7)
ROWS_B = (3, 31, 7, 12, 0, 39, 21, 8)
# Tokens of each text that are real, of the longest's: one has a single one.
REAL_B = (5, 3, 4, 1, 5, 2, 5, 3)


@dataclass(frozen=True)
class Encoder:
    """A network of texts: its layers are alike, and those that have a counterpart are its stages."""

    width: int
    heads: int
    layers: int


Network = tuple[Shape, ...] | Encoder
TEACHER = ((8, 16, 16), (12, 8, 8), (16, 4, 4))
# Pairs of networks: of images the student's stages and the teacher's, of texts the encoders.
IMAGES_BETWEEN: dict[str, tuple[Network, Network]] = {
    "convolutions": (((4, 8, 8), (6, 4, 4), (8, 2, 2)), TEACHER),
    "of the same sizes": (TEACHER, TEACHER),
    "alike": (((4, 8, 8), (6, 4, 4)), ((8, 8, 8), (12, 4, 4))),
    "convolutions by tokens": (((4, 8, 8), (6, 4, 4), (8, 2, 2)), ((10, 7, 7),) * 3),
    "tokens by convolutions": (((6, 5, 5),) * 4, ((4, 16, 16), (8, 8, 8), (12, 4, 4), (16, 1, 1))),
    "one stage of one value": (((3, 1, 1),), ((5, 1, 1),)),
    "not square": (((3, 4, 9), (3, 1, 6)), ((5, 6, 5), (7, 2, 2))),
}
TEXTS_BETWEEN: dict[str, tuple[Network, Network]] = {
    "encoders": (Encoder(6, 2, 2), Encoder(12, 3, 4)),
    "encoders of the same sizes": (Encoder(12, 3, 4), Encoder(12, 3, 4)),
    "a deeper student": (Encoder(4, 1, 3), Encoder(8, 1, 2)),
    "widths without a common part": (Encoder(3, 1, 1), Encoder(5, 5, 6)),
}
NETWORKS = IMAGES_BETWEEN | TEXTS_BETWEEN


def networks_for(loss: Loss) -> list[str]:
    """Pairs that show what a loss looks at; first an ordinary one, and one alone where logits are all."""
    of_images = [] if "attention" in loss.reads else [*IMAGES_BETWEEN]
    of_texts = [] if loss.grid else [*TEXTS_BETWEEN]
    return (of_images + of_texts)[: None if loss.reads - {"logits"} else 1]


def ordinary(loss: Loss) -> str:
    return networks_for(loss)[0]


def alike(loss: Loss) -> str:
    """Networks of which neither has more stages than the other."""
    return "alike" if "alike" in networks_for(loss) else ordinary(loss)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(loss: Loss, networks: str | None = None, *, change: Change = lambda x: x, seed: int = 0) -> LossInputs:
    """A batch of which the networks show what the loss says it reads, and its adapter.

    Args:
        networks: One of `NETWORKS`; None takes an ordinary pair.
        change: Made to every tensor the networks show.
        seed: Of the adapter.
    """
    between = NETWORKS[ordinary(loss) if networks is None else networks]
    student, teacher = (outputs(loss, between, i, change, seed=100 * i) for i in (0, 1))
    torch.manual_seed(seed)
    adapter = None if loss.adapter is None else loss.adapter(_sizes(student, teacher), loss.settings())
    return LossInputs(
        student=student,
        teacher=teacher if loss.needs_teacher else None,
        targets_M=labels(min(loss.tasks)),
        row_B=torch.tensor(ROWS_B),
        adapter=adapter,
        tail=_tail(teacher) if "tail" in loss.reads else None,
    )


def outputs(
    loss: Loss, between: tuple[Network, Network], side: int, change: Change = lambda x: x, *, seed: int
) -> Outputs:
    """A network's side of a batch: the logits, and of the rest only what the loss says it reads.

    Args:
        side: 0 is the student's, 1 the teacher's.
    """
    size, network = len(LABELS_B), between[side]
    width = network.width if isinstance(network, Encoder) else network[-1][0]
    shapes = _stages(between, side) if loss.reads & {"stages", "tail"} else ()
    mask_BT = real() if isinstance(network, Encoder) else None
    return Outputs(
        change(3 * draw(seed, size, CLASSES)),
        tuple(Stage(change(draw(seed + i, size, *shape)), mask_BT) for i, shape in enumerate(shapes, 1)),
        change(draw(seed + 10, size, width)) if "embedding" in loss.reads else None,
        change(draw(seed + 11, CLASSES, width)) if "head" in loss.reads else None,
        _attention(loss, between, side, change, seed + 20) if "attention" in loss.reads else (),
    )


def real() -> Tensor:
    """Which tokens of the texts are real, B×T."""
    return torch.arange(max(REAL_B)) < torch.tensor(REAL_B)[:, None]


def _stages(between: tuple[Network, Network], side: int) -> tuple[tuple[int, ...], ...]:
    network = between[side]
    if not isinstance(network, Encoder):
        return network
    count = min(4, *(each.layers for each in between if isinstance(each, Encoder)))
    return ((max(REAL_B), network.width),) * count


def _attention(
    loss: Loss, between: tuple[Network, Network], side: int, change: Change, seed: int
) -> tuple[Attention | None, ...]:
    """Of the layers that the loss says it compares, and of no others."""
    student, teacher = between
    assert isinstance(student, Encoder)
    assert isinstance(teacher, Encoder)
    assert loss.layers is not None, "a loss that reads attention says which layers it compares"
    asked = {pair[side] for pair in loss.layers(student.layers, teacher.layers, loss.settings())}
    encoder = (student, teacher)[side]

    def layer(i: int) -> Attention:
        shape = (len(LABELS_B), max(REAL_B), encoder.width)
        query_BTD, key_BTD, value_BTD = (change(draw(seed + 3 * i + j, *shape)) for j in range(3))
        return Attention(query_BTD, key_BTD, value_BTD, encoder.heads, real())

    return tuple(layer(i) if i in asked else None for i in range(encoder.layers))


def labels(kind: str) -> Tensor:
    if kind == "classification":
        return torch.tensor(LABELS_B)
    return (draw(7, len(LABELS_B), CLASSES) > -0.5).float()


def _sizes(student: Outputs, teacher: Outputs) -> Sizes:
    ours, theirs = (tuple(stage.size for stage in side.stages) for side in (student, teacher))
    dims = [0 if side.embedding_BD is None else side.embedding_BD.shape[1] for side in (student, teacher)]
    return Sizes(ours, theirs, dims[0], dims[1], CLASSES, IMAGES)


def _tail(teacher: Outputs) -> Callable[[int, Tensor], Tensor]:
    """The teacher's later layers: something small, smooth and its own for every stage."""

    def go_on(stage: int, map_BCHW: Tensor) -> Tensor:
        size = teacher.stages[stage].size
        assert map_BCHW.shape[1:] == size, "the teacher goes on from maps of its own sizes"
        return map_BCHW.float().mean((2, 3)).tanh() @ draw(50 + stage, size[0], CLASSES)

    return go_on


def tensors(side: Outputs | None) -> Iterator[Tensor]:
    """All a network shows, beside which tokens are real."""
    if side is not None:
        yield side.answers_MK
        yield from (stage.values for stage in side.stages)
        yield from (tensor for tensor in (side.embedding_BD, side.weight_KD) if tensor is not None)
        for layer in side.attention:
            if layer is not None:
                yield from (layer.query_BTD, layer.key_BTD, layer.value_BTD)


def rebuilt(side: Outputs, new: list[Tensor]) -> Outputs:
    """The same kind of tensors as `tensors` gives, in their places."""
    left = iter(new)

    def layer(old: Attention | None) -> Attention | None:
        return old and replace(old, query_BTD=next(left), key_BTD=next(left), value_BTD=next(left))

    return Outputs(
        next(left),
        tuple(replace(stage, values=next(left)) for stage in side.stages),
        None if side.embedding_BD is None else next(left),
        None if side.weight_KD is None else next(left),
        tuple(layer(old) for old in side.attention),
    )


def masked(side: Outputs, change: Change) -> Outputs:
    """The same with what says which tokens are real changed."""

    def of(mask: Tensor | None) -> Tensor | None:
        return None if mask is None else change(mask)

    return replace(
        side,
        stages=tuple(replace(stage, mask_BN=of(stage.mask_BN)) for stage in side.stages),
        attention=tuple(layer and replace(layer, mask_BT=of(layer.mask_BT)) for layer in side.attention),
    )


def both(batch: LossInputs, change: Callable[[Outputs], Outputs]) -> LossInputs:
    """The batch with either network's side changed."""
    teacher = None if batch.teacher is None else change(batch.teacher)
    return replace(batch, student=change(batch.student), teacher=teacher)


def chosen(batch: LossInputs, images: list[int]) -> LossInputs:
    """The batch of these images, or texts."""

    def only(side: Outputs) -> Outputs:
        new = rebuilt(side, [x if x is side.weight_KD else x[images] for x in tensors(side)])
        return masked(new, lambda mask_BN: mask_BN[images])

    return replace(both(batch, only), targets_M=batch.targets_M[images], row_B=batch.row_B[images])


def each_decided_twice(batch: LossInputs) -> LossInputs:
    """The same examples, each of which is two decisions, with answers and labels of their own."""

    def two(side: Outputs) -> Outputs:
        return replace(side, answers_MK=torch.cat((side.answers_MK, -2 * side.answers_MK)))

    size = len(batch.row_B)
    return replace(
        both(batch, two),
        targets_M=torch.cat((batch.targets_M, batch.targets_M.flip(0))),
        example_M=torch.arange(size).repeat(2),
    )


def padded(batch: LossInputs, by: int, value: float) -> LossInputs:
    """The same texts with so much more padding, in which, old and new, the networks show this value."""
    from torch.nn.functional import pad

    def longer(side: Outputs) -> Outputs:
        tokens = [stage.values for stage in side.stages if stage.grid is None]
        layers = [layer for layer in side.attention if layer is not None]
        tokens += [x for layer in layers for x in (layer.query_BTD, layer.key_BTD, layer.value_BTD)]
        known = {id(x) for x in tokens}

        def one(x: Tensor) -> Tensor:
            return pad(x.masked_fill(~real()[:, :, None], value), (0, 0, 0, by), value=value)

        new = rebuilt(side, [one(x) if id(x) in known else x for x in tensors(side)])
        return masked(new, lambda mask_BN: pad(mask_BN, (0, by)))

    return both(batch, longer)


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
