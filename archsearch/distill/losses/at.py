"""Attention transfer."""

# B batch, C channels, H W space, P positions

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.distill.maps import same_size

if TYPE_CHECKING:
    from torch import Tensor


@loss(
    "at",
    source="Zagoruyko and Komodakis 2017 (1612.03928), eq. 2 as their code has it; weight of Tian et al. 2020",
    reads={"stages"},
    grid=True,
    weight=1000.0,
    tasks={"classification", "multilabel"},
)
def at(inputs: LossInputs, settings: Settings) -> Tensor:
    """Mean squared difference of where networks look: unit maps of the channels' mean square; summed over stages."""
    import torch

    assert inputs.teacher is not None
    stages = zip(inputs.student.maps, inputs.teacher.maps, strict=True)
    return torch.stack([_gap(student, teacher) for student, teacher in stages]).sum()


def _gap(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    from torch.nn.functional import mse_loss, normalize

    # It is the attention maps that are brought to one resolution (as in the paper, section 3.1): one channel, not C.
    student_B1HW, teacher_B1HW = same_size(_attention(student_BCHW), _attention(teacher_BCHW))
    return mse_loss(normalize(student_B1HW.flatten(1)), normalize(teacher_B1HW.flatten(1)))


def _attention(map_BCHW: Tensor) -> Tensor:
    """What the whole of the channels does at each position: the mean of their squares, B×1×H×W."""
    return map_BCHW.float().square().mean(1, keepdim=True)
