"""Relations among the tokens of a text, as attention's projections have them."""

# B batch, T tokens, D features, A relation heads, R features of one of them

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from archsearch.distill.loss import Attention, LossInputs, Settings, loss
from archsearch.kernels import masked_mean

if TYPE_CHECKING:
    from torch import Tensor

# Where among a large teacher's layers the published choice lies: 21 of 24, and 19 of 24.
_UPPER_MIDDLE = 0.85
# Of what is padding: no attention, and still a number that its own negative takes back.
_NOWHERE = -1e30


class MiniLM(Settings):
    relation_heads: int = Field(
        12,
        ge=1,
        le=1024,
        description="Most heads the projections are parted into, whatever heads the networks have; it is the largest "
        "number up to this that divides all widths. Published are 48 (base) and 64 (large): finer, and dearer.",
    )
    layer: Literal["last", "middle"] = Field(
        "last", description="Which of the teacher's layers teaches the student's last; middle is 0.85 of the way up, "
        "published for teachers of 24 layers."
    )  # fmt: skip
    queries: float = Field(1.0, ge=0, le=1e4, description="Weight of the relations of queries.")
    keys: float = Field(1.0, ge=0, le=1e4, description="Weight of the relations of keys.")
    values: float = Field(1.0, ge=0, le=1e4, description="Weight of the relations of values.")
    until: float = Field(1.0, gt=0, le=1, description="Share of the training after which it is silent; 1 is never.")


def _layers(student: int, teacher: int, settings: MiniLM) -> Sequence[tuple[int, int]]:
    upper = teacher if settings.layer == "last" else max(1, round(_UPPER_MIDDLE * teacher))
    return [(student - 1, upper - 1)]


@loss(
    "minilm",
    source="Wang et al. 2021 (MiniLMv2, 2012.15828), eq. 4-7, multi-head self-attention relations",
    reads={"attention"},
    settings=MiniLM,
    tasks={"classification", "multilabel"},
    layers=_layers,
)
def minilm(inputs: LossInputs, settings: MiniLM) -> Tensor:
    """KL(teacher ‖ student) of how the tokens of a text relate: softmax of QQᵀ, KKᵀ and VVᵀ over √R, head by head.

    Widths, heads and depths are free: all projections are parted into as many relation heads. Averaged over heads, the
    real tokens of a text and the texts; padding neither relates nor is related to.
    """
    if settings.until < 1 and inputs.done >= settings.until:
        return inputs.student.answers_MK[:0].float().sum()
    assert inputs.teacher is not None
    ours, theirs = inputs.student.attention, inputs.teacher.attention
    ((own, taught),) = _layers(len(ours), len(theirs), settings)
    student, teacher = ours[own], theirs[taught]
    assert student is not None
    assert teacher is not None
    weights = (settings.queries, settings.keys, settings.values)
    pairs = list(zip(_projections(student), _projections(teacher), strict=True))
    heads = relation_heads([x_BTD.shape[2] for pair in pairs for x_BTD in pair], settings.relation_heads)
    total = student.query_BTD.new_zeros((), dtype=pairs[0][0].float().dtype)
    for weight, (student_BTD, teacher_BTD) in zip(weights, pairs, strict=True):
        if weight:
            total = total + weight * _gap(student_BTD, teacher_BTD, heads, student.mask_BT)
    return total


def relation_heads(widths: Sequence[int], most: int) -> int:
    """The largest number of heads, up to so many, that parts every width evenly."""
    common = math.gcd(*widths)
    return max(heads for heads in range(1, most + 1) if common % heads == 0)


def _projections(layer: Attention) -> tuple[Tensor, Tensor, Tensor]:
    return layer.query_BTD, layer.key_BTD, layer.value_BTD


def _gap(student_BTD: Tensor, teacher_BTD: Tensor, heads: int, mask_BT: Tensor | None) -> Tensor:
    log_s_BATT, log_t_BATT = (_log_relations(x_BTD, heads, mask_BT) for x_BTD in (student_BTD, teacher_BTD))
    kl_BAT = (log_t_BATT.exp() * (log_t_BATT - log_s_BATT)).sum(3)
    return masked_mean(kl_BAT.transpose(1, 2), mask_BT).mean()


def _log_relations(x_BTD: Tensor, heads: int, mask_BT: Tensor | None) -> Tensor:
    x_BATR = x_BTD.float().reshape(*x_BTD.shape[:2], heads, -1).transpose(1, 2)
    scores_BATT = x_BATR @ x_BATR.transpose(2, 3) / math.sqrt(x_BATR.shape[3])
    if mask_BT is not None:
        scores_BATT = scores_BATT.masked_fill(~mask_BT[:, None, None, :], _NOWHERE)
    log_BATT: Tensor = scores_BATT.log_softmax(3)
    return log_BATT
