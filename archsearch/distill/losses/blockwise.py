"""Block-wise logit distillation over stepping stones."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss
from archsearch.kernels import label_loss, softened_kl

if TYPE_CHECKING:
    from torch import Tensor, nn


class Blockwise(Settings):
    temperature: float = Field(4.0, ge=0.1, le=100, description="Softens all logits.")
    stones: int = Field(
        4, ge=1, le=64, description="Stepping stones, from the last stage on; each asks the teacher once more."
    )
    cross: float = Field(1.0, ge=0, le=1e4, description="Weight of what the stones' mean teaches student and stones.")
    stone_labels: float = Field(1.0, ge=0, le=1e4, description="Weight of what the labels teach the stones.")


def _stones(settings: Blockwise, stages: int) -> range:
    return range(max(0, stages - settings.stones), stages)


def _connectors(sizes: Sizes, settings: Blockwise) -> nn.Module:
    from archsearch.distill.adapters.blockwise import Connectors

    stones = _stones(settings, len(sizes.student_stages))
    return Connectors([(sizes.student_stages[i][0], sizes.teacher_stages[i][0]) for i in stones])


# The three terms have weights α, β and γ in the paper; here they weigh 1 each, the last two by settings.
@loss(
    "blockwise",
    source="Yu et al. 2024 (2411.01547): task, distillation and cross terms, stones weighing 1/2^(n − i)",
    reads={"logits", "stages", "tail"},
    grid=True,
    settings=Blockwise,
    adapter=_connectors,
    by_labels=True,
)
def blockwise(inputs: LossInputs, settings: Blockwise) -> Tensor:
    """T²·KL(teacher ‖ ·) of the student and of stepping stones: its first stages and the teacher's last ones."""
    import torch

    assert inputs.teacher is not None
    teacher_BK = inputs.teacher.answers_MK
    stones = _stone_logits(inputs, settings)
    # The mean of the stones teaches, and does not learn.
    mean_BK = torch.stack([logits_BK.detach().float() for logits_BK in stones]).mean(0)

    def taught(logits_BK: Tensor) -> Tensor:
        value = softened_kl(logits_BK, teacher_BK, settings.temperature)
        return value + settings.cross * softened_kl(logits_BK, mean_BK, settings.temperature)

    total = taught(inputs.student.answers_MK)
    for back, logits_BK in enumerate(reversed(stones)):
        stone = taught(logits_BK) + settings.stone_labels * label_loss(logits_BK, inputs.targets_M, inputs.weight_M)
        total = total + stone / 2**back
    return total


def _stone_logits(inputs: LossInputs, settings: Blockwise) -> list[Tensor]:
    """Every stone's answers, first stage to last."""
    assert inputs.teacher is not None
    assert inputs.adapter is not None
    assert inputs.tail is not None
    numbers = _stones(settings, len(inputs.student.maps))
    sizes = [tuple(inputs.teacher.maps[i].shape[2:]) for i in numbers]
    maps = inputs.adapter([inputs.student.maps[i] for i in numbers], sizes)
    return [inputs.tail(i, map_BCHW) for i, map_BCHW in zip(numbers, maps, strict=True)]
