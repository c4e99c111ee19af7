"""PKD: standardised feature maps."""

# B batch, C channels, H W space, P positions of all images

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss
from archsearch.distill.maps import same_size

if TYPE_CHECKING:
    from torch import Tensor, nn

# A channel that is the same everywhere has no direction, and is nothing after this instead of a division by nothing.
_EPS = 1e-12


class PKD(Settings):
    stages: Literal["last", "all"] = Field("all", description="Which stages are compared.")


def _compared(settings: PKD, stages: int) -> range:
    """Numbers of the stages that are compared."""
    return range(stages) if settings.stages == "all" else range(stages - 1, stages)


def _channels(sizes: Sizes, settings: PKD) -> nn.Module:
    from archsearch.distill.adapters.pkd import Channels

    compared = _compared(settings, len(sizes.student_stages))
    return Channels([(sizes.student_stages[i][0], sizes.teacher_stages[i][0]) for i in compared])


@loss(
    "pkd",
    source="Cao et al. 2022 (2207.02039), eq. 3 and 4; their weight of two-stage detectors, and a trained 1×1 map, for "
    "widths differ here",
    reads={"stages"},
    grid=True,
    settings=PKD,
    weight=6.0,
    adapter=_channels,
    tasks={"classification", "multilabel"},
)
def pkd(inputs: LossInputs, settings: PKD) -> Tensor:
    """Half the mean squared difference of standardised channels, which is 1 − their correlation; mean over stages."""
    import torch

    assert inputs.teacher is not None
    assert inputs.adapter is not None
    pairs = [
        same_size(inputs.student.maps[i], inputs.teacher.maps[i]) for i in _compared(settings, len(inputs.student.maps))
    ]
    mapped = inputs.adapter([student for student, _ in pairs])
    gaps = [_gap(ours, theirs) for ours, (_, theirs) in zip(mapped, pairs, strict=True)]
    return torch.stack(gaps).mean()


def _gap(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    from torch.nn.functional import mse_loss

    return mse_loss(standardised(student_BCHW), standardised(teacher_BCHW)) / 2


def standardised(map_BCHW: Tensor) -> Tensor:
    """Every channel with mean 0 and deviation 1 over all positions of all images, C×P."""
    import torch

    x_CP = map_BCHW.transpose(0, 1).flatten(1).float()
    centred_CP = x_CP - x_CP.mean(1, keepdim=True)
    found_CP: Tensor = centred_CP * torch.rsqrt(centred_CP.square().mean(1, keepdim=True) + _EPS)
    return found_CP
