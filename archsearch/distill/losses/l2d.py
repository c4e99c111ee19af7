"""Multi-label knowledge distillation, the whole method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.distill.losses.l2d_class import both, class_gap
from archsearch.distill.losses.l2d_instance import instance_gap
from archsearch.distill.losses.mld import PUBLISHED_WEIGHT, mld

if TYPE_CHECKING:
    from torch import Tensor


class L2D(Settings):
    logits: float = Field(PUBLISHED_WEIGHT, ge=0, le=1e6, description="Weight of the logits (mld).")
    classes: float = Field(100.0, ge=0, le=1e6, description="Weight of the images that share a label (l2d_class).")
    instances: float = Field(1000.0, ge=0, le=1e6, description="Weight of the labels of an image (l2d_instance).")


@loss(
    "l2d",
    source="Yang et al. 2023 (L2D), arXiv 2308.06453",
    reads={"logits", "stages", "embedding", "head"},
    grid=True,
    settings=L2D,
    tasks={"multilabel"},
    by_labels=True,
)
def l2d(inputs: LossInputs, settings: L2D) -> Tensor:
    """Logits label by label, and the spacing of label-wise embeddings within labels and within images."""
    embeddings = both(inputs)
    return (
        settings.logits * mld(inputs, settings)
        + settings.classes * class_gap(*embeddings, inputs.targets_B)
        + settings.instances * instance_gap(*embeddings, inputs.targets_B)
    )
