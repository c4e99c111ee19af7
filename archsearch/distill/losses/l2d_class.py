"""Class-aware label-wise embedding distillation."""

# B batch, D features, H W space, K labels

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import LossInputs, Outputs, Settings, loss
from archsearch.errors import InvalidRequest
from archsearch.kernels import label_embeddings, structure_gap
from archsearch.precision import exact

if TYPE_CHECKING:
    from torch import Tensor


@loss(
    "l2d_class",
    source="Yang et al. 2023 (L2D), arXiv 2308.06453, class-aware label-wise embedding distillation",
    reads={"stages", "embedding", "head"},
    grid=True,
    weight=100.0,
    tasks={"multilabel"},
    by_labels=True,
)
def l2d_class(inputs: LossInputs, settings: Settings) -> Tensor:
    """Images that share a label lie as far apart in that label's embedding as they do in the teacher's.

    Theirs: distances of a label's positives over their mean, compared by Huber's loss, summed over pairs and labels,
    divided by the number of positives; and the weight, which stands beside a cross-entropy summed over the images (both
    are divided by the number of images here). Ours: the embeddings. Theirs come of a transformer head (ML-Decoder)
    that both networks have to be trained with; ours of the head a network has, as `kernels.label_embeddings` says. No
    gradient from labels of fewer than three images in the batch: one distance is its own mean.
    """
    return class_gap(*both(inputs), inputs.targets_B)


def class_gap(student_BKD: Tensor, teacher_BKD: Tensor, y_BK: Tensor) -> Tensor:
    """The loss from both networks' label-wise embeddings."""
    gap_K = structure_gap(student_BKD.transpose(0, 1), teacher_BKD.transpose(0, 1), y_BK.T > 0.5)
    gap: Tensor = gap_K.sum() / len(y_BK)
    return gap


def both(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Label-wise embeddings B×K×D of student and teacher."""
    assert inputs.teacher is not None
    with exact(inputs.student.answers_MK.device):
        return _label_wise(inputs.student), _label_wise(inputs.teacher)


def _label_wise(outputs: Outputs) -> Tensor:
    assert outputs.embedding_BD is not None
    if outputs.weight_KD is None:
        raise InvalidRequest(
            "label-wise embeddings need classifiers with weights, and a network's has none; use mld",
            field="distill.method",
        )
    map_BDHW = outputs.maps[-1]
    if map_BDHW.shape[1] != outputs.weight_KD.shape[1]:
        # Layers between the last stage and the classifier (MobileNet's) changed the width: one position is left.
        map_BDHW = outputs.embedding_BD[:, :, None, None]
    return label_embeddings(map_BDHW, outputs.weight_KD)
