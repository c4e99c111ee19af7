"""The few formulas that scores and losses share, written once.

They use tensor methods only, so that listing proxies or losses never imports torch.
"""

# B batch, D features, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def relation(features: Tensor) -> Tensor:
    """How alike the samples of a batch are: the row-normalised Gram matrix of their flattened features.

    Args:
        features: B×…, any feature map; its dimensions beyond the batch are flattened, so networks of any shape compare.

    Returns:
        B×B in float32. A row of zeros stays zero.

    Source: similarity-preserving distillation (Tung and Mori 2019, eq. 2-3); DisWOT (Dong et al. 2023, eq. 5).
    """
    features_BD = features.flatten(1).float()
    gram_BB: Tensor = features_BD @ features_BD.T
    norm_B1: Tensor = gram_BB.norm(dim=1, keepdim=True)
    return gram_BB / norm_B1.clamp_min(1e-12)


def softened_kl(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) of softened logits, averaged over the batch (Hinton et al. 2015, section 2).

    The factor T² keeps its gradient's size when the temperature changes. Computed in float32.
    """
    log_s_BK = (student_BK.float() / temperature).log_softmax(1)
    log_t_BK = (teacher_BK.float() / temperature).log_softmax(1)
    kl_B = (log_t_BK.exp() * (log_t_BK - log_s_BK)).sum(1)
    loss: Tensor = kl_B.mean() * temperature**2
    return loss
