from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from archsearch.distill.loss import Attention, LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.tinybert import TinyBERT
from archsearch.errors import InvalidRequest
from archsearch.kernels import softened_kl

# B batch, T tokens, D features

tinybert = losses.get("tinybert")
MASK_BT = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(width: int, heads: int, seed: int) -> Attention:
    return Attention(*(random(3, 4, width, seed=seed + i) for i in range(3)), heads, MASK_BT)


def side(width: int, heads: int, layers: int, stages: int, seed: int) -> Outputs:
    return Outputs(
        random(3, 5, seed=seed),
        tuple(Stage(random(3, 4, width, seed=seed + 10 + i), MASK_BT) for i in range(stages)),
        attention=tuple(attention(width, heads, seed + 100 + 3 * i) for i in range(layers)),
    )


def built(student: Outputs, teacher: Outputs) -> nn.Module:
    ours, theirs = (tuple(stage.size for stage in outputs.stages) for outputs in (student, teacher))
    assert tinybert.adapter is not None
    torch.manual_seed(0)
    return tinybert.adapter(Sizes(ours, theirs, 0, 0, 5, 100), TinyBERT())


def value(student: Outputs, teacher: Outputs, adapter: nn.Module, settings: TinyBERT, done: float = 1.0) -> Tensor:
    size = len(student.answers_MK)
    y_B = torch.zeros(size, dtype=torch.long)
    return tinybert.compute(LossInputs(student, teacher, y_B, torch.arange(size), done, adapter), settings)


def test_one_layer_by_hand() -> None:
    """Hidden states (1, 2) and (3, 4), of which the second token is padding, through the identity against (0, 0):
    (1 + 4) / 2. One head of two features: Q·K = 1·1 + 1·1 over √2 is √2, and the teacher's is 0: 2. Answers alike: 0.
    """
    mask_BT = torch.tensor([[True, False]])
    hidden, nothing = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.zeros(1, 2, 2)
    ones = torch.tensor([[[1.0, 1.0], [5.0, 5.0]]])
    student = Outputs(
        torch.zeros(1, 2), (Stage(hidden, mask_BT),), attention=(Attention(ones, ones, ones, 1, mask_BT),)
    )
    teacher = Outputs(
        torch.zeros(1, 2), (Stage(nothing, mask_BT),), attention=(Attention(nothing, nothing, nothing, 1, mask_BT),)
    )
    same = nn.Identity()
    assert value(student, teacher, same, TinyBERT()).item() == pytest.approx(2.5 + 2, abs=1e-6)
    assert value(student, teacher, same, TinyBERT(hidden=2, attention=0)).item() == pytest.approx(5, abs=1e-6)
    assert (tinybert.weight, tinybert.labels) == (1, 0)


def slowly(student: Outputs, teacher: Outputs, adapter: nn.Module) -> float:
    """As the paper has it, one number at a time; heads are averaged first where their numbers differ."""
    found = 0.0
    for ours, theirs in zip(student.stages, teacher.stages, strict=True):
        for text in range(3):
            real = [t for t in range(4) if MASK_BT[text, t]]
            for t in real:
                gap_D = (adapter(ours.values[text, t]) - theirs.values[text, t]).tolist()
                found += sum(gap**2 for gap in gap_D) / len(gap_D) / len(real) / 3
    times = len(teacher.attention) // len(student.attention)
    for m, ours in enumerate(student.attention, 1):
        theirs = teacher.attention[m * times - 1]
        assert ours is not None
        assert theirs is not None
        for text in range(3):
            real = [t for t in range(4) if MASK_BT[text, t]]
            for i in real:
                for j in real:
                    pair = [heads_of(layer, text, i, j) for layer in (ours, theirs)]
                    if len(pair[0]) != len(pair[1]):
                        pair = [[sum(scores) / len(scores)] for scores in pair]
                    gaps = [(s - t) ** 2 for s, t in zip(*pair, strict=True)]
                    found += sum(gaps) / len(gaps) / len(real) ** 2 / 3
    return found


def heads_of(layer: Attention, text: int, i: int, j: int) -> list[float]:
    """Every head's score of token i for token j."""
    part = layer.query_BTD.shape[2] // layer.heads
    query, key = layer.query_BTD[text, i].tolist(), layer.key_BTD[text, j].tolist()
    return [
        sum(query[d] * key[d] for d in range(head * part, (head + 1) * part)) / math.sqrt(part)
        for head in range(layer.heads)
    ]


@pytest.mark.parametrize("heads", [(2, 2), (2, 3), (1, 4)])
def test_it_is_what_a_slow_program_finds(heads: tuple[int, int]) -> None:
    student, teacher = side(6, heads[0], 2, 2, 0), side(12, heads[1], 4, 2, 50)
    adapter = built(student, teacher)
    found = value(student, teacher, adapter, TinyBERT(logits=0)).item()
    assert found == pytest.approx(slowly(student, teacher, adapter), rel=1e-5)
    answers = softened_kl(student.answers_MK, teacher.answers_MK, 2.0).item()
    both = value(student, teacher, adapter, TinyBERT(logits=3, temperature=2)).item()
    assert both == pytest.approx(found + 3 * answers, rel=1e-5)


def test_after_its_share_of_the_training_answers_alone_are_compared() -> None:
    student, teacher = side(6, 2, 2, 2, 0), side(12, 2, 4, 2, 50)
    adapter = built(student, teacher)
    late = value(student, teacher, adapter, TinyBERT(until=0.7), done=0.7)
    assert late.equal(softened_kl(student.answers_MK, teacher.answers_MK, 1.0))
    early = value(student, teacher, adapter, TinyBERT(until=0.7), done=0.69)
    assert early.equal(value(student, teacher, adapter, TinyBERT()))


def test_layers_are_matched_uniformly() -> None:
    assert tinybert.layers is not None
    assert list(tinybert.layers(4, 12, TinyBERT())) == [(0, 2), (1, 5), (2, 8), (3, 11)]
    assert list(tinybert.layers(3, 2, TinyBERT())) == [(1, 0), (2, 1)]


def test_hidden_states_of_several_widths_are_refused() -> None:
    assert tinybert.adapter is not None
    with pytest.raises(InvalidRequest, match="differ in width"):
        tinybert.adapter(Sizes(((4,), (8,)), ((8,), (8,)), 0, 0, 5, 100), TinyBERT())
