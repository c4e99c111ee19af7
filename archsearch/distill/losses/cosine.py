"""The direction of what the last layer reads."""

# B batch, D features

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss

if TYPE_CHECKING:
    from torch import Tensor, nn


def _map(sizes: Sizes, settings: Settings) -> nn.Module:
    from torch import nn

    return nn.Linear(sizes.student_dim, sizes.teacher_dim, bias=False)


@loss(
    "cosine",
    source="Sanh et al. 2019 (1910.01108), section 2, the cosine embedding loss, by a trained map of the embedding",
    reads={"embedding"},
    adapter=_map,
    tasks={"classification", "multilabel"},
)
def cosine(inputs: LossInputs, settings: Settings) -> Tensor:
    """Mean of 1 − cos between the teacher's embedding and the student's after a trained linear map."""
    from torch.nn.functional import cosine_similarity

    assert inputs.teacher is not None
    assert inputs.adapter is not None
    assert inputs.student.embedding_BD is not None
    assert inputs.teacher.embedding_BD is not None
    mapped_BD = inputs.adapter(inputs.student.embedding_BD.flatten(1).float())
    return 1 - cosine_similarity(mapped_BD, inputs.teacher.embedding_BD.flatten(1).float(), dim=1).mean()
