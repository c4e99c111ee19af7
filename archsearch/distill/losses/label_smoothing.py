"""Smoothed labels: the plainest of the rivals that need no teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss

if TYPE_CHECKING:
    from torch import Tensor


class LabelSmoothing(Settings):
    smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the label's certainty spread over all classes.")


@loss(
    "label_smoothing",
    source="Szegedy et al. 2016, arXiv 1512.00567, section 7",
    reads=frozenset(),
    settings=LabelSmoothing,
    labels=0.0,
    by_labels=True,
)
def label_smoothing(inputs: LossInputs, settings: LabelSmoothing) -> Tensor:
    """Cross-entropy with (1 − ε) of the label and ε of all classes alike; the teacher is not asked."""
    from torch.nn.functional import cross_entropy

    logits_BK = inputs.student.answers_MK.float()
    if inputs.weight_M is None:
        return cross_entropy(logits_BK, inputs.targets_M, label_smoothing=settings.smoothing)
    loss_B = cross_entropy(logits_BK, inputs.targets_M, label_smoothing=settings.smoothing, reduction="none")
    return (inputs.weight_M * loss_B).mean()
