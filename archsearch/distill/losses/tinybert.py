"""Hidden states, attention and answers of a transformer, layer by layer."""

# B batch, T N tokens, D features, A heads, K classes

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import Attention, LossInputs, Settings, Sizes, Stage, loss
from archsearch.distill.watched import spread
from archsearch.errors import InvalidRequest
from archsearch.kernels import masked_mean, softened_kl

if TYPE_CHECKING:
    from torch import Tensor, nn


class TinyBERT(Settings):
    hidden: float = Field(1.0, ge=0, le=1e4, description="Weight of the hidden states.")
    attention: float = Field(1.0, ge=0, le=1e4, description="Weight of the attention scores.")
    logits: float = Field(1.0, ge=0, le=1e4, description="Weight of the answers.")
    temperature: float = Field(1.0, ge=0.1, le=100, description="Softens both answers.")
    until: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the training after which answers alone are compared; published is one training for "
        "hidden states and attention, and then one for answers.",
    )


def _layers(student: int, teacher: int, settings: TinyBERT) -> Sequence[tuple[int, int]]:
    """Uniform: a student's layer m learns from the teacher's k·m, k how many times as many layers that one has."""
    count = min(student, teacher)
    return list(zip(spread(range(student), count), spread(range(teacher), count), strict=True))


def _projection(sizes: Sizes, settings: TinyBERT) -> nn.Module:
    """One for all layers, as published."""
    from torch import nn

    widths = [{stage[0] for stage in stages} for stages in (sizes.student_stages, sizes.teacher_stages)]
    if any(len(each) > 1 for each in widths):
        raise InvalidRequest(
            "tinybert projects all hidden states alike, and those of a network here differ in width; take minilm or kd",
            field="distill.method",
        )
    return nn.Linear(widths[0].pop(), widths[1].pop())


# The published sum also compares what the embeddings put out, which is left out here.
@loss(
    "tinybert",
    source="Jiao et al. 2020 (1909.10351), eq. 7-10: hidden states, attention scores and soft answers",
    reads={"logits", "stages", "attention"},
    settings=TinyBERT,
    labels=0.0,
    adapter=_projection,
    layers=_layers,
)
def tinybert(inputs: LossInputs, settings: TinyBERT) -> Tensor:
    """Mean squared differences of projected hidden states and of QKᵀ/√d, summed over layers, and T²·KL of answers.

    The published soft cross-entropy has the same gradient as the divergence, which is 0 once all is learned. Attention
    is compared before the softmax, head by head, or averaged over heads where the networks have different numbers of
    them. Means are over the real tokens of a text and then over texts. Layers of attention are matched uniformly
    (g(m) = k·m); hidden states at those of the layers that are stages, at most four.
    """
    assert inputs.teacher is not None
    student, teacher = inputs.student, inputs.teacher
    total = settings.logits * softened_kl(student.answers_MK, teacher.answers_MK, settings.temperature)
    if settings.until < 1 and inputs.done >= settings.until:
        return total
    assert inputs.adapter is not None
    for ours, theirs in zip(student.stages, teacher.stages, strict=True):
        total = total + settings.hidden * _hidden_gap(inputs.adapter, ours, theirs)
    for i, j in _layers(len(student.attention), len(teacher.attention), settings):
        total = total + settings.attention * _attention_gap(student.attention[i], teacher.attention[j])
    return total


def _hidden_gap(projection: nn.Module, ours: Stage, theirs: Stage) -> Tensor:
    gap_BND = projection(ours.tokens_BND.float()) - theirs.tokens_BND.float()
    return masked_mean(gap_BND.square(), ours.mask_BN).mean()


def _attention_gap(ours: Attention | None, theirs: Attention | None) -> Tensor:
    assert ours is not None
    assert theirs is not None
    each = ours.heads == theirs.heads
    gap_BATT = _scores(ours, each_head=each) - _scores(theirs, each_head=each)
    over_heads_BTT = gap_BATT.square().mean(1)
    # Once over the keys that are real, and once over the queries.
    mask_BT = ours.mask_BT
    if mask_BT is None:
        return over_heads_BTT.mean()
    real_BTT = mask_BT[:, :, None] & mask_BT[:, None, :]
    sum_B = over_heads_BTT.masked_fill(~real_BTT, 0).sum((1, 2))
    return (sum_B / real_BTT.sum((1, 2)).clamp_min(1)).mean()


def _scores(layer: Attention, *, each_head: bool) -> Tensor:
    """QKᵀ/√d, B×A×T×T; of their mean over heads B×1×T×T, which is that of the undivided projections over A."""
    query_BTD, key_BTD = layer.query_BTD.float(), layer.key_BTD.float()
    root = math.sqrt(query_BTD.shape[2] / layer.heads)
    if not each_head:
        mean_BTT: Tensor = query_BTD @ key_BTD.transpose(1, 2) / (root * layer.heads)
        return mean_BTT.unsqueeze(1)
    shape = (*query_BTD.shape[:2], layer.heads, -1)
    query_BATR, key_BATR = (x_BTD.reshape(shape).transpose(1, 2) for x_BTD in (query_BTD, key_BTD))
    scores_BATT: Tensor = query_BATR @ key_BATR.transpose(2, 3) / root
    return scores_BATT
