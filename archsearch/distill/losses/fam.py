"""Frequency attention."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss
from archsearch.distill.maps import same_size
from archsearch.errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor, nn

# Half a gigabyte of weights, and as much again for each of the optimizer's buffers. ImageNet's ResNet18 and 34, the
# largest pair published, take 53 million.
_MOST_WEIGHTS = 2**27


class FAM(Settings):
    cutoff: float = Field(0.1, ge=0, le=1, description="Share of the spectrum, from its middle, that is taken out.")
    warmup: float = Field(1 / 12, ge=0, le=1, description="Share of the training in which the weight rises from 0.")


def _attentions(sizes: Sizes, settings: FAM) -> nn.Module:
    from archsearch.distill.adapters.fam import FrequencyAttention, FrequencyAttentions

    stages = [
        (ours[0], theirs[0], min(ours[1], theirs[1]), min(ours[2], theirs[2]))
        for ours, theirs in zip(sizes.student_stages, sizes.teacher_stages, strict=True)
    ]
    weights = sum(2 * ours * theirs * height * (width // 2 + 1) for ours, theirs, height, width in stages)
    if weights > _MOST_WEIGHTS:
        raise InvalidRequest(
            f"fam's global filters have a weight for every pair of channels and every frequency, here {weights:,}, and "
            f"{_MOST_WEIGHTS:,} are the most; take reviewkd or at, or a teacher with narrower stages",
            field="distill.method",
        )
    return FrequencyAttentions([FrequencyAttention(*stage, settings.cutoff) for stage in stages])


@loss(
    "fam",
    source="Pham et al. 2024 (2403.05894), its module from layer to layer, and its code; its ImageNet weight",
    reads={"stages"},
    grid=True,
    settings=FAM,
    adapter=_attentions,
    tasks={"classification", "multilabel"},
)
def fam(inputs: LossInputs, settings: FAM) -> Tensor:
    """Mean squared difference of the teacher's maps and the student's after attention in the frequency domain."""
    import torch
    from torch.nn.functional import mse_loss

    assert inputs.teacher is not None
    assert inputs.adapter is not None
    stages = zip(inputs.student.maps, inputs.teacher.maps, strict=True)
    pairs = [same_size(student, teacher) for student, teacher in stages]
    attended = inputs.adapter([student for student, _ in pairs])
    gaps = [mse_loss(ours, theirs) for ours, (_, theirs) in zip(attended, pairs, strict=True)]
    strength = min(1.0, inputs.done / settings.warmup) if settings.warmup else 1.0
    return strength * torch.stack(gaps).sum()
