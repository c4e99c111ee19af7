"""FitNets: hints."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss
from archsearch.distill.maps import same_size

if TYPE_CHECKING:
    from torch import Tensor, nn


class FitNet(Settings):
    stages: Literal["middle", "all"] = Field("middle", description="Which stages are hints; published is the middle.")


def _hints(settings: FitNet, stages: int) -> range:
    """Numbers of the stages that are hints; of an even number the earlier of the two in the middle."""
    middle = (stages - 1) // 2
    return range(stages) if settings.stages == "all" else range(middle, middle + 1)


def _regressors(sizes: Sizes, settings: FitNet) -> nn.Module:
    from archsearch.distill.adapters.fitnet import Regressors

    hints = _hints(settings, len(sizes.student_stages))
    return Regressors([(sizes.student_stages[i][0], sizes.teacher_stages[i][0]) for i in hints])


@loss(
    "fitnet",
    source="Romero et al. 2015 (1412.6550), eq. 3, in one training as Tian et al. 2020 do; their weight",
    reads={"stages"},
    grid=True,
    settings=FitNet,
    weight=100.0,
    adapter=_regressors,
    tasks={"classification", "multilabel"},
)
def fitnet(inputs: LossInputs, settings: FitNet) -> Tensor:
    """Mean squared difference of the teacher's maps and the student's after a trained 1×1 convolution."""
    import torch
    from torch.nn.functional import mse_loss

    assert inputs.teacher is not None
    assert inputs.adapter is not None
    # A 1×1 convolution and an average may change places: averaging first leaves it less to do.
    pairs = [
        same_size(inputs.student.maps[i], inputs.teacher.maps[i]) for i in _hints(settings, len(inputs.student.maps))
    ]
    regressed = inputs.adapter([student for student, _ in pairs])
    return torch.stack([mse_loss(ours, theirs) for ours, (_, theirs) in zip(regressed, pairs, strict=True)]).sum()
