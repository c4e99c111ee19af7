from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from archsearch.distill.loss import Attention, LossInputs, Outputs, losses
from archsearch.distill.losses.minilm import MiniLM, relation_heads
from archsearch.domains.images.task import ImageTask

# B batch, T tokens, D features

minilm = losses.get("minilm")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(width: int, heads: int, seed: int, mask_BT: Tensor, *, batch: int = 3) -> Attention:
    tokens = mask_BT.shape[1]
    return Attention(*(random(batch, tokens, width, seed=seed + i) for i in range(3)), heads, mask_BT)


def value(student: list[Attention], teacher: list[Attention], settings: MiniLM, done: float = 1.0) -> Tensor:
    size = len(student[0].query_BTD)
    sides = [Outputs(torch.zeros(size, 2), attention=tuple(layers)) for layers in (student, teacher)]
    y_B = torch.zeros(size, dtype=torch.long)
    return minilm.compute(LossInputs(sides[0], sides[1], y_B, torch.arange(size), done), settings)


def one(first: float, second: float, mask: tuple[bool, ...] = (True, True)) -> Attention:
    """Two tokens of one number each; a third is padding where there is one."""
    tokens = torch.tensor([[[first], [second], [9.0]]])[:, : len(mask)]
    return Attention(tokens, tokens, torch.zeros_like(tokens), 1, torch.tensor([mask]))


def test_two_tokens_by_hand() -> None:
    """Teacher: x = (√ln 3, 0), so that xxᵀ = (ln 3, 0 | 0, 0) with softmax (¾, ¼ | ½, ½). Student: all 0, ½ each.

    KL(teacher ‖ student) of the first token is ¾ ln 1.5 + ¼ ln 0.5, of the second 0: half of it on average. Queries and
    keys weigh 1 each and are the same here; values are all 0.
    """
    half = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    teacher, student = one(math.sqrt(math.log(3)), 0), one(0, 0)
    assert value([student], [teacher], MiniLM()).item() == pytest.approx(2 * half, abs=1e-6)
    assert value([student], [teacher], MiniLM(keys=3, queries=0)).item() == pytest.approx(3 * half, abs=1e-6)
    long = (True, True, False)
    padded = value([one(0, 0, long)], [one(math.sqrt(math.log(3)), 0, long)], MiniLM())
    assert padded.item() == pytest.approx(2 * half, abs=1e-6)
    assert (minilm.weight, minilm.labels) == (1, 1)


def slowly(student: Attention, teacher: Attention, heads: int, weights: tuple[float, float, float]) -> float:
    """As the paper has it, one number at a time."""

    def relations(x_BTD: Tensor, text: int, head: int, real: list[int]) -> list[list[float]]:
        part = x_BTD.shape[2] // heads
        rows = []
        for i in real:
            scores = []
            for j in real:
                dot = sum(
                    float(x_BTD[text, i, head * part + d]) * float(x_BTD[text, j, head * part + d]) for d in range(part)
                )
                scores.append(dot / math.sqrt(part))
            total = sum(math.exp(score) for score in scores)
            rows.append([math.exp(score) / total for score in scores])
        return rows

    assert student.mask_BT is not None
    value, texts = 0.0, len(student.query_BTD)
    for text in range(texts):
        real = [t for t in range(student.mask_BT.shape[1]) if student.mask_BT[text, t]]
        for weight, name in zip(weights, ("query_BTD", "key_BTD", "value_BTD"), strict=True):
            for head in range(heads):
                ours, theirs = (relations(getattr(side, name), text, head, real) for side in (student, teacher))
                for p_row, q_row in zip(theirs, ours, strict=True):
                    kl = sum(p * math.log(p / q) for p, q in zip(p_row, q_row, strict=True))
                    value += weight * kl / (texts * heads * len(real))
    return value


def test_it_is_what_a_slow_program_finds_for_any_widths_and_heads() -> None:
    mask_BT = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])
    student, teacher = layer(6, 2, 0, mask_BT), layer(12, 4, 10, mask_BT)
    for most, heads in ((12, 6), (3, 3), (4, 3), (1, 1)):
        settings = MiniLM(relation_heads=most, queries=0.5, values=2)
        found = value([student], [teacher], settings).item()
        assert found == pytest.approx(slowly(student, teacher, heads, (0.5, 1.0, 2.0)), rel=1e-5)


def test_a_student_that_shows_the_teachers_projections_has_learned_all() -> None:
    mask_BT = torch.ones(3, 5, dtype=torch.bool)
    same = layer(12, 3, 0, mask_BT)
    assert value([same], [same], MiniLM()).item() == pytest.approx(0, abs=1e-6)
    # A turn of the features within a relation head changes no relation.
    turn_RR = torch.linalg.qr(random(2, 2, seed=9)).Q
    parts = [x.reshape(3, 5, 6, 2) @ turn_RR for x in (same.query_BTD, same.key_BTD, same.value_BTD)]
    turned = Attention(*(x.reshape(3, 5, 12) for x in parts), 3, mask_BT)
    assert value([turned], [same], MiniLM(relation_heads=6)).item() == pytest.approx(0, abs=1e-5)


def test_heads_are_as_many_as_part_every_width_up_to_what_is_asked_for() -> None:
    assert relation_heads((384, 128), 12) == 8
    assert relation_heads((384, 192), 12) == 12
    assert relation_heads((768, 384), 48) == 48
    assert relation_heads((768, 312), 12) == 12
    assert relation_heads((768, 7), 12) == 1


def test_the_students_last_layer_learns_from_the_teachers_last_or_from_one_of_its_upper_middle() -> None:
    assert minilm.layers is not None
    assert list(minilm.layers(3, 12, MiniLM())) == [(2, 11)]
    chosen = [minilm.layers(2, depth, MiniLM(layer="middle"))[0][1] + 1 for depth in (24, 12, 6, 2, 1)]
    assert chosen == [20, 10, 5, 2, 1]
    mask_BT = torch.ones(3, 4, dtype=torch.bool)
    student, low, high = (layer(4, 2, seed, mask_BT) for seed in (0, 10, 20))
    assert value([low, student], [high, low], MiniLM()).equal(value([student], [low], MiniLM()))


def test_after_its_share_of_the_training_it_is_silent() -> None:
    mask_BT = torch.ones(3, 4, dtype=torch.bool)
    student, teacher = layer(4, 2, 0, mask_BT), layer(8, 2, 10, mask_BT)
    half = MiniLM(until=0.5)
    assert value([student], [teacher], half, done=0.49).equal(value([student], [teacher], MiniLM()))
    assert value([student], [teacher], half, done=0.5).item() == 0


def test_networks_that_keep_their_projections_in_one_are_refused() -> None:
    images = ImageTask(10, 3, 8, 8, (0.5,) * 3, (0.25,) * 3)
    assert "projections of attention" in (minilm.unseen(images) or "")
