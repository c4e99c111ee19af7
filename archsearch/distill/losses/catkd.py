"""Class attention transfer."""

# B batch, C channels, H W space, K classes, P positions

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Outputs, Settings, Sizes, loss
from archsearch.distill.maps import pooled
from archsearch.errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor, nn


class CATKD(Settings):
    size: int = Field(2, ge=1, le=64, description="Height and width the maps are averaged to.")
    normalise: bool = Field(
        True,
        description="Compare where a map is high, not how high. Published between families; within one also without, "
        "at weights of 0.7 to 15.",
    )


def _check(sizes: Sizes, settings: CATKD) -> nn.Module:
    """Nothing to train: what is built is the certainty that a classifier's weights belong to a map's channels."""
    from torch import nn

    for who, maps, dim in (
        ("student", sizes.student_stages, sizes.student_dim),
        ("teacher", sizes.teacher_stages, sizes.teacher_dim),
    ):
        if maps[-1][0] != dim:
            raise InvalidRequest(
                f"catkd weighs the {who}'s last map by its classifier, but that map has {maps[-1][0]} channels and the "
                f"classifier reads {dim} features, made by layers in between (as in MobileNetV3 and EfficientNet); "
                "take at, sp or kd",
                field="distill.method",
            )
    return nn.Identity()


# Published weights with normalised 2×2 maps are 15 (VGG13 → MobileNetV2), 40 (ResNet50 → MobileNetV2) and, without
# labels, 50 (ResNet32x4 → itself).
@loss(
    "catkd",
    source="Guo et al. 2023 (2304.12777), as in its code; weight of ResNet50 → MobileNetV2",
    # The embedding is what tells the width of the classifier.
    reads={"stages", "head", "embedding"},
    grid=True,
    settings=CATKD,
    weight=40.0,
    adapter=_check,
    tasks={"classification", "multilabel"},
)
def catkd(inputs: LossInputs, settings: CATKD) -> Tensor:
    """Mean squared difference of the class activation maps, averaged to 2×2 and of unit length each."""
    from torch.nn.functional import mse_loss

    assert inputs.teacher is not None
    return mse_loss(_activations(inputs.student, settings), _activations(inputs.teacher, settings))


def _activations(outputs: Outputs, settings: CATKD) -> Tensor:
    """What speaks for each class where, B×K×P. Averaged before it is weighed, which is the same and less to do."""
    from torch.nn.functional import normalize

    assert outputs.weight_KD is not None
    map_BCP = pooled(outputs.maps[-1], settings.size, settings.size).flatten(2)
    activation_BKP: Tensor = outputs.weight_KD.flatten(1).float() @ map_BCP
    return normalize(activation_BKP, dim=2, eps=1e-6) if settings.normalise else activation_BKP
