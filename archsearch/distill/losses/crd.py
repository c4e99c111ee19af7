"""Contrastive representation distillation."""

# B batch, D features

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss

if TYPE_CHECKING:
    from torch import Tensor, nn


class CRD(Settings):
    features: int = Field(128, ge=1, le=4096, description="Width both embeddings are projected to.")
    negatives: int = Field(
        16384,
        ge=1,
        le=2**20,
        description="Images each is told from, at most all there are; a batch shares them.",
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="Share of the old in what is remembered of an image.")
    temperature: float = Field(0.07, gt=0, le=10, description="Divides the similarities.")
    other_classes: bool = Field(
        True, description="Only images of other classes are negatives, as published; of multi-label data any other is."
    )


def _contrast(sizes: Sizes, settings: CRD) -> nn.Module:
    from archsearch.distill.adapters.crd import Contrast

    return Contrast(
        (sizes.student_dim, sizes.teacher_dim),
        sizes.images,
        features=settings.features,
        negatives=settings.negatives,
        momentum=settings.momentum,
        temperature=settings.temperature,
    )


@loss(
    "crd",
    source="Tian et al. 2020 (1910.10699), the noise-contrastive form of their code (eq. 18), and their weight",
    reads={"embedding"},
    settings=CRD,
    weight=0.8,
    adapter=_contrast,
    tasks={"classification", "multilabel"},
    by_labels=True,
)
def crd(inputs: LossInputs, settings: CRD) -> Tensor:
    """Noise-contrastive loss: an image's embedding is to be told by the other network's of it, both ways."""
    assert inputs.teacher is not None
    assert inputs.adapter is not None
    label_B = inputs.targets_B if settings.other_classes and inputs.targets_M.ndim == 1 else None
    value: Tensor = inputs.adapter(inputs.student.embedding_BD, inputs.teacher.embedding_BD, inputs.row_B, label_B)
    return value
