"""Decoupled knowledge distillation."""

# B batch, K classes, R the other classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss, more_than_two_classes
from archsearch.kernels import softened_kl

if TYPE_CHECKING:
    from torch import Tensor


class DKD(Settings):
    temperature: float = Field(4.0, ge=0.1, le=100, description="Softens both logits.")
    alpha: float = Field(1.0, ge=0, le=1e3, description="Weight of the labelled class against all others (TCKD).")
    beta: float = Field(
        8.0, ge=0, le=1e3, description="Weight of the other classes among themselves (NCKD); published: 2 to 8."
    )
    warmup: float = Field(1 / 12, ge=0, le=1, description="Share of the training in which the loss rises to its size.")


@loss(
    "dkd",
    source="Zhao et al. 2022, arXiv 2203.08679, eq. 7",
    reads={"logits"},
    settings=DKD,
    refuse=more_than_two_classes,
    by_labels=True,
)
def dkd(inputs: LossInputs, settings: DKD) -> Tensor:
    """T²·(α·TCKD + β·NCKD): the labelled class against the others, and the others among themselves, weighed apart.

    Hinton's divergence is the special case α = 1, β = the teacher's doubt. With two classes there is one other, and
    NCKD is 0; hence the refusal. The warm-up is 20 of 240 epochs in the authors' trainings.
    """
    assert inputs.teacher is not None
    temperature = settings.temperature
    target_s_B2, others_s_BR = _decouple(inputs.student.answers_MK, inputs.targets_M, temperature)
    target_t_B2, others_t_BR = _decouple(inputs.teacher.answers_MK, inputs.targets_M, temperature)
    tckd = softened_kl(target_s_B2, target_t_B2, temperature)
    nckd = softened_kl(others_s_BR, others_t_BR, temperature)
    risen = min(inputs.done / settings.warmup, 1.0) if settings.warmup else 1.0
    return (settings.alpha * tckd + settings.beta * nckd) * risen


def _decouple(logits_BK: Tensor, y_B: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits of the labelled class and of all others taken together (B×2), and those of the others (B×R)."""
    import torch

    z_BK, classes = logits_BK.float(), logits_BK.shape[1]
    others_BR = (y_B[:, None] + torch.arange(1, classes, device=y_B.device)) % classes
    rest_BR = z_BK.gather(1, others_BR)
    # One logit whose softened exponential is the sum of the others': nothing ever takes the logarithm of a zero.
    together_B1 = temperature * (rest_BR / temperature).logsumexp(1, keepdim=True)
    return torch.cat((z_BK.gather(1, y_B[:, None]), together_B1), 1), rest_BR
