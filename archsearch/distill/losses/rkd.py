"""Relational distillation: distances and angles among the samples of a batch."""

# B batch, D features; I, J, K samples of the batch, J at the vertex of an angle

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import gram

if TYPE_CHECKING:
    from torch import Tensor

# Squared distances below this share of the squared lengths they are a difference of are rounding: the same sample.
_SAME = 1e-6


class RKD(Settings):
    distance: float = Field(25.0, ge=0, le=1e4, description="Weight of the distances.")
    angle: float = Field(
        50.0, ge=0, le=1e4, description="Weight of the angles; time and memory grow with the third power of the batch."
    )


@loss(
    "rkd",
    source="Park et al. 2019 (1904.05068), distance-wise and angle-wise loss; weights of Tian et al. 2020",
    reads={"embedding"},
    settings=RKD,
    tasks={"classification", "multilabel"},
)
def rkd(inputs: LossInputs, settings: RKD) -> Tensor:
    """Huber loss between distances, and between angles, that student and teacher see among the samples of a batch."""
    from torch.nn.functional import smooth_l1_loss

    assert inputs.teacher is not None
    assert inputs.student.embedding_BD is not None
    assert inputs.teacher.embedding_BD is not None
    ours_BB, theirs_BB = _distances(inputs.student.embedding_BD), _distances(inputs.teacher.embedding_BD)
    total = settings.distance * smooth_l1_loss(ours_BB, theirs_BB)
    if settings.angle:
        total = total + settings.angle * smooth_l1_loss(_angles(ours_BB), _angles(theirs_BB))
    return total


def _distances(embedding_BD: Tensor) -> Tensor:
    """Distances of all pairs over their mean, B×B; 0, and without a gradient, between samples that are the same."""
    import torch

    # Distances do not change when the mean is taken off, and what is subtracted below becomes as small as it can be.
    centred_BD = embedding_BD.flatten(1).float()
    gram_BB = gram(centred_BD - centred_BD.mean(0))
    square_B = gram_BB.diagonal()
    sum_BB = square_B[:, None] + square_B
    square_BB = sum_BB - 2 * gram_BB
    apart_BB = square_BB > _SAME * sum_BB
    # The root has no slope at 0; there it is taken of 1 instead, and the result put aside.
    distance_BB = torch.where(apart_BB, square_BB, 1.0).sqrt() * apart_BB
    pairs = max(1, len(embedding_BD) * (len(embedding_BD) - 1))
    unit_BB: Tensor = distance_BB / (distance_BB.sum() / pairs).clamp_min(1e-12)
    return unit_BB


def _angles(distance_BB: Tensor) -> Tensor:
    """Cosine of the angle at J between I and K, J×I×K, by the law of cosines; 0 where it has no meaning.

    From the distances alone it takes B³ operations, and B³·D from the differences of the embeddings.
    """
    import torch

    apart_BB = distance_BB > 0
    inverse_BB = apart_BB / torch.where(apart_BB, distance_BB, 1.0)
    square_BB = distance_BB.square() / 2
    opposite_JIK = square_BB[:, :, None] + square_BB[:, None, :] - square_BB
    cosine_JIK: Tensor = opposite_JIK * (inverse_BB[:, :, None] * inverse_BB[:, None, :])
    return cosine_JIK
