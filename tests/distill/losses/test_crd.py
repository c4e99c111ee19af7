from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.nn.functional import softplus

from archsearch.distill.adapters.crd import Contrast
from archsearch.distill.loss import LossInputs, Outputs, Sizes, losses
from archsearch.distill.losses.crd import CRD

# B batch, D features, F features projected to, N images

crd = losses.get("crd")


def contrast(images: int = 20, seed: int = 0, **settings: float) -> Contrast:
    sizes = Sizes((), (), 3, 5, 10, images)
    assert crd.adapter is not None
    torch.manual_seed(seed)
    adapter = crd.adapter(sizes, CRD.model_validate({"features": 8, **settings}))
    assert isinstance(adapter, Contrast)
    return adapter


def batch(adapter: Contrast, row_B: torch.Tensor, y: torch.Tensor | None = None, seed: int = 0) -> LossInputs:
    generator, size = torch.Generator().manual_seed(seed), len(row_B)
    embeddings = [torch.randn(size, dim, generator=generator) for dim in (3, 5)]
    student, teacher = (Outputs(torch.zeros(size, 2), embedding_BD=e) for e in embeddings)
    y = torch.zeros(size, 4) if y is None else y
    return LossInputs(student, teacher, y, row_B, adapter=adapter)


def by_hand() -> tuple[Contrast, LossInputs]:
    """Two images, projections that change nothing, and memories (1, 0), (0, 1) of the student and (0, 1), (1, 0)."""
    adapter = Contrast((2, 2), 2, features=2, negatives=2, momentum=0.5, temperature=1.0)
    with torch.no_grad():
        for head in (adapter.student, adapter.teacher):
            head.weight.copy_(torch.eye(2))
            head.bias.zero_()
        adapter.student_NF.copy_(torch.eye(2))
        adapter.teacher_NF.copy_(torch.eye(2).flip(0))
    student, teacher = (Outputs(torch.zeros(1, 2), embedding_BD=torch.tensor([[e, 0.0]])) for e in (2.0, 3.0))
    return adapter, LossInputs(student, teacher, torch.tensor([0]), torch.tensor([0]), adapter=adapter)


def test_two_images_by_hand() -> None:
    """Image 0 is (1, 0) to both. Student against the teacher's memories: its own 0, the other's 1; teacher: 1 and 0.

    With F = 2 and T = 1 the mean of exp(similarity) is taken for e^¼, of which K = 2: h = e^s / (e^s + 2·e^¼).
    """
    _, inputs = by_hand()

    def h(similarity: float) -> float:
        return math.exp(similarity) / (math.exp(similarity) + 2 * math.exp(0.25))

    expected = -math.log(h(0)) - math.log(1 - h(1)) - math.log(h(1)) - math.log(1 - h(0))
    with torch.no_grad():
        assert crd.compute(inputs, CRD(other_classes=False)).item() == pytest.approx(expected, abs=1e-6)
    assert (crd.weight, crd.labels) == (0.8, 1)


def test_what_is_remembered_by_hand() -> None:
    """Half of the old and half of the new, of unit length: the teacher's (0, 1) and (1, 0) become (√½, √½)."""
    adapter, inputs = by_hand()
    crd.compute(inputs, CRD())
    torch.testing.assert_close(adapter.student_NF, torch.eye(2))
    torch.testing.assert_close(adapter.teacher_NF, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))
    assert adapter.label_N.tolist() == [0, -1]


def test_memories_change_in_training_only() -> None:
    adapter = contrast()
    inputs = batch(adapter, torch.tensor([3, 7]), torch.tensor([1, 2]))
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    with torch.no_grad():
        crd.compute(inputs, CRD())
    assert all(value.equal(before[name]) for name, value in adapter.state_dict().items())
    crd.compute(inputs, CRD())
    changed = (adapter.student_NF != before["student_NF"]).any(1)
    assert changed.nonzero().flatten().tolist() == [3, 7]
    torch.testing.assert_close(adapter.teacher_NF[[3, 7]].norm(dim=1), torch.ones(2))
    assert adapter.label_N[[3, 7]].tolist() == [1, 2]


def test_images_of_the_same_class_are_no_negatives_once_their_class_is_known() -> None:
    """With the memories at 0 every negative costs the same, so their number shows in the value."""
    adapter = contrast(images=10, temperature=1.0)
    with torch.no_grad():
        adapter.student_NF.zero_()
        adapter.teacher_NF.zero_()
        adapter.label_N.copy_(torch.tensor([0, 0, 0, 1, 1, 1, 1, -1, -1, -1]))
        inputs = batch(adapter, torch.tensor([0]), torch.tensor([0]))
        offset = torch.tensor(adapter.offset)
        positive, negative = softplus(offset), softplus(-offset)
        torch.testing.assert_close(crd.compute(inputs, CRD()), 2 * (positive + 7 * negative))
        torch.testing.assert_close(crd.compute(inputs, CRD(other_classes=False)), 2 * (positive + 9 * negative))
        many = batch(adapter, torch.tensor([0]), torch.zeros(1, 4))
        torch.testing.assert_close(crd.compute(many, CRD()), 2 * (positive + 9 * negative))


def test_the_known_mean_is_the_one_measured_against_a_random_memory() -> None:
    adapter = Contrast((4, 4), 5000, features=128, negatives=5000, momentum=0.5, temperature=0.07)
    unit_BF = torch.nn.functional.normalize(torch.randn(100, 128, generator=torch.Generator().manual_seed(1)))
    measured = (unit_BF @ adapter.student_NF.T / 0.07).exp().mean()
    assert math.log(measured) == pytest.approx(adapter.offset - math.log(5000), abs=0.02)


def test_every_other_image_is_a_negative_in_turn() -> None:
    adapter, seen = contrast(images=10, negatives=4), torch.zeros(10, dtype=torch.long)
    for step in range(5):
        others = adapter._others()
        assert len(set(others.tolist())) == 4
        seen[others] += 1
        crd.compute(batch(adapter, torch.tensor([step])), CRD())
    assert seen.tolist() == [2] * 10


def test_there_are_no_more_negatives_than_images_and_one_image_has_none() -> None:
    assert contrast(images=7).negatives == 7
    adapter = contrast(images=1)
    found = crd.compute(batch(adapter, torch.tensor([0])), CRD())
    found.backward()
    assert found.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters())


def test_it_is_resumed_to_the_bit() -> None:
    """A training interrupted after its second step goes on as the uninterrupted one, whatever the seed by then."""

    def step(adapter: Contrast, number: int) -> torch.Tensor:
        inputs = batch(adapter, torch.tensor([number, number + 5]), torch.tensor([number % 3, 1]), seed=number)
        return crd.compute(inputs, CRD())

    whole = contrast(negatives=6)
    for number in range(2):
        step(whole, number)
    resumed = contrast(negatives=6, seed=1)
    resumed.load_state_dict({name: value.clone() for name, value in whole.state_dict().items()})
    for number in range(2, 5):
        assert step(whole, number).equal(step(resumed, number))


def test_heads_that_learn_find_the_same_image_in_the_other_network() -> None:
    """The teacher's embeddings are the student's, mixed: only trained heads see that they are of the same images."""
    adapter, rows = contrast(images=16, features=16, temperature=0.1), torch.arange(16)
    generator = torch.Generator().manual_seed(0)
    student_BD = torch.randn(16, 3, generator=generator)
    teacher_BD = student_BD @ torch.randn(3, 5, generator=generator)
    student, teacher = (Outputs(torch.zeros(16, 2), embedding_BD=e) for e in (student_BD, teacher_BD))
    inputs = LossInputs(student, teacher, torch.zeros(16, 4), rows, adapter=adapter)

    def right() -> float:
        with torch.no_grad():
            nearest = (adapter.student(student_BD) @ adapter.teacher_NF.T).argmax(1)
        return (nearest == rows).float().mean().item()

    assert right() < 0.3
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        crd.compute(inputs, CRD()).backward()
        optimizer.step()
    assert right() > 0.8


def test_processes_that_train_together_remember_for_one_another(tmp_path: Path) -> None:
    adapter, alone = contrast(), contrast()
    inputs = batch(alone, torch.tensor([3, 7]), torch.tensor([1, 2]))
    crd.compute(inputs, CRD())
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        crd.compute(batch(adapter, torch.tensor([3, 7]), torch.tensor([1, 2])), CRD())
    finally:
        distributed.destroy_process_group()
    assert all(value.equal(alone.state_dict()[name]) for name, value in adapter.state_dict().items())
