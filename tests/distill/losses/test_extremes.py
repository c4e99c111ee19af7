"""What feature losses have to stand: activations of any size, dead maps, bf16, single samples, unlike networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from archsearch.distill.loss import Loss, LossInputs, Outputs, Sizes, losses

# B batch, C channels, H W space, D features, K classes

NAMES = ("at", "sp", "fitnet", "rkd", "crd", "reviewkd", "blockwise", "catkd", "fam")
Shape = tuple[int, int, int]
# Pairs of networks: the student's stages and the teacher's.
PAIRS: dict[str, tuple[tuple[Shape, ...], tuple[Shape, ...]]] = {
    "alike": (((4, 8, 8), (6, 4, 4)), ((8, 8, 8), (12, 4, 4))),
    "convolutions by tokens": (((4, 8, 8), (6, 4, 4), (8, 2, 2)), ((10, 7, 7),) * 3),
    "tokens by convolutions": (((6, 5, 5),) * 4, ((4, 16, 16), (8, 8, 8), (12, 4, 4), (16, 1, 1))),
    "one stage of one value": (((3, 1, 1),), ((5, 1, 1),)),
    "not square": (((3, 4, 9), (3, 1, 6)), ((5, 6, 5), (7, 2, 2))),
}
CLASSES, IMAGES = 5, 30


@pytest.fixture(params=NAMES)
def loss(request: pytest.FixtureRequest) -> Loss:
    return losses.get(request.param)


def make(
    loss: Loss, pair: str, size: int, change: Callable[[Tensor], Tensor] = lambda x: x, seed: int = 0
) -> tuple[LossInputs, list[Tensor]]:
    """A batch of what the pair shows, and what a gradient may be asked of: the student's side and the adapter."""
    ours, theirs = PAIRS[pair]
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return change(torch.randn(shape, generator=generator))

    def outputs(stages: tuple[Shape, ...]) -> Outputs:
        width = stages[-1][0]
        maps = tuple(draw(size, *stage) for stage in stages)
        return Outputs(draw(size, CLASSES), maps, draw(size, width), draw(CLASSES, width))

    student, teacher = outputs(ours), outputs(theirs)
    assert student.embedding_BD is not None
    assert student.weight_KD is not None
    leaves = [*student.maps, student.logits_BK, student.embedding_BD, student.weight_KD]
    heads = [torch.randn(stage[0], CLASSES, generator=generator) for stage in theirs]
    torch.manual_seed(seed)
    adapter = _adapter(loss, Sizes(ours, theirs, ours[-1][0], theirs[-1][0], CLASSES, IMAGES))
    parameters = [] if adapter is None else list(adapter.parameters())

    def tail(stage: int, map_BCHW: Tensor) -> Tensor:
        assert map_BCHW.shape[1:] == theirs[stage]
        return map_BCHW.float().mean((2, 3)) @ heads[stage]

    y_B, row_B = torch.arange(size) % CLASSES, torch.randperm(IMAGES, generator=generator)[:size]
    for leaf in leaves:
        leaf.requires_grad_()
    return LossInputs(student, teacher, y_B, row_B, 1.0, adapter, tail), leaves + parameters


def _adapter(loss: Loss, sizes: Sizes) -> nn.Module | None:
    return None if loss.adapter is None else loss.adapter(sizes, loss.settings())


def check(loss: Loss, batch: LossInputs, leaves: list[Tensor]) -> Tensor:
    """A finite float32 scalar with finite gradients, some of which the student gets."""
    value = loss.compute(batch, loss.settings())
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert value.isfinite()
    value.backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    return value.detach()


@pytest.mark.parametrize("pair", PAIRS)
def test_any_two_networks(loss: Loss, pair: str) -> None:
    batch, leaves = make(loss, pair, 6)
    value = check(loss, batch, leaves)
    # Where there is one place to look at, all networks look there.
    assert value == 0 if (loss.name, pair) == ("at", "one stage of one value") else value > 0


@pytest.mark.parametrize("pair", PAIRS)
def test_a_single_sample(loss: Loss, pair: str) -> None:
    check(loss, *make(loss, pair, 1))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "large": lambda x: 1e3 * x,
    "tiny": lambda x: 1e-6 * x,
    "dead": torch.zeros_like,
    "constant": torch.ones_like,
    "positive": torch.relu,
}


@pytest.mark.parametrize("change", CHANGES)
def test_activations_of_any_size(loss: Loss, change: str) -> None:
    check(loss, *make(loss, "alike", 6, CHANGES[change]))


def test_a_dead_student_of_a_living_teacher(loss: Loss) -> None:
    living, _ = make(loss, "alike", 6)
    dead, leaves = make(loss, "alike", 6, torch.zeros_like)
    check(loss, LossInputs(dead.student, living.teacher, dead.y, dead.row_B, 1.0, dead.adapter, dead.tail), leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_full(loss: Loss, dtype: torch.dtype) -> None:
    """As exact as the same values in float32, to the last bit."""
    half, leaves = make(loss, "alike", 6, lambda x: x.to(dtype))
    full, _ = make(loss, "alike", 6, lambda x: x.to(dtype).float())
    value = check(loss, half, leaves)
    assert value.equal(loss.compute(full, loss.settings()).detach())


def test_the_same_seed_gives_the_same_value(loss: Loss) -> None:
    first, second = (loss.compute(make(loss, "alike", 6)[0], loss.settings()) for _ in range(2))
    assert first.equal(second)


def test_nothing_flows_to_the_teacher(loss: Loss) -> None:
    batch, leaves = make(loss, "alike", 6)
    assert batch.teacher is not None
    check(loss, batch, leaves)
    assert all(not map_BCHW.requires_grad for map_BCHW in batch.teacher.maps)


def test_what_an_adapter_learns_and_remembers_is_kept_with_it(loss: Loss) -> None:
    """Loaded into an adapter of another seed, its state gives the same value."""
    batch, _ = make(loss, "alike", 6)
    if batch.adapter is None:
        assert loss.adapter is None
        return
    other, _ = make(loss, "alike", 6, seed=1)
    assert other.adapter is not None
    other.adapter.load_state_dict(batch.adapter.state_dict())
    taken = LossInputs(batch.student, batch.teacher, batch.y, batch.row_B, 1.0, other.adapter, batch.tail)
    with torch.no_grad():
        assert loss.compute(taken, loss.settings()).equal(loss.compute(batch, loss.settings()))


@pytest.mark.parametrize("name", NAMES)
def test_losses_without_labels_serve_multi_label_tasks(name: str) -> None:
    loss = losses.get(name)
    if name == "blockwise":  # a softmax of logits, and the labels teach the stones
        assert loss.tasks == {"classification"}
        return
    batch, leaves = make(loss, "alike", 6)
    assert loss.tasks == {"classification", "multilabel"}
    many = torch.zeros(6, CLASSES)
    check(loss, LossInputs(batch.student, batch.teacher, many, batch.row_B, 1.0, batch.adapter, batch.tail), leaves)
