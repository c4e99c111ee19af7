"""The few formulas that scores and losses share, written once.

torch is imported where tensor methods do not suffice, so that listing proxies or losses never imports torch.
"""

# B batch, D features, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """F·Fᵀ of a batch's flattened features, B×B in float32, from B×… of any shape: networks of any width compare."""
    features_BD = features.flatten(1).float()
    gram_BB: Tensor = features_BD @ features_BD.T
    return gram_BB


def relation(gram_BB: Tensor) -> Tensor:
    """How alike the samples of a batch are: the row-normalised Gram matrix. A row of zeros stays zero.

    Source: similarity-preserving distillation (Tung and Mori 2019, eq. 2-3); DisWOT (Dong et al. 2023, eq. 5).
    """
    norm_B1: Tensor = gram_BB.norm(dim=1, keepdim=True)
    return gram_BB / norm_B1.clamp_min(1e-12)


def correlation(features: Tensor) -> Tensor:
    """Pearson correlation of a batch's flattened rows, B×B in float32; a row without variance correlates with none."""
    features_BD = features.flatten(1).float()
    centred_BD = features_BD - features_BD.mean(1, keepdim=True)
    unit_BD = centred_BD / centred_BD.norm(dim=1, keepdim=True).clamp_min(1e-30)
    correlation_BB: Tensor = unit_BD @ unit_BD.T
    return correlation_BB


def cka(a_BB: Tensor, b_BB: Tensor) -> Tensor:
    """Likeness of two Gram matrices, 0 to 1, after centring (Kornblith et al. 2019, eq. 3); 0 where one is constant."""
    centred = [g - g.mean(0, keepdim=True) - g.mean(1, keepdim=True) + g.mean() for g in (a_BB, b_BB)]
    norms: Tensor = centred[0].norm() * centred[1].norm()
    return (centred[0] * centred[1]).sum() / norms.clamp_min(1e-30)


def effective_rank(kernel_BB: Tensor) -> Tensor:
    """exp of the entropy of a kernel's eigenvalues, 1 to B (Roy and Vetterli 2007); 0 for a kernel of zeros.

    Eigenvalues are found in float64: a batch is small and half precision would invent some.
    """
    eigenvalues_B = _eigvalsh(kernel_BB.double()).clamp_min(0)
    total: Tensor = eigenvalues_B.sum()
    share_B = eigenvalues_B / total.clamp_min(1e-300)
    entropy: Tensor = -(share_B * share_B.clamp_min(1e-300).log()).sum()
    return entropy.exp() * (total > 0)


def _eigvalsh(matrix: Tensor) -> Tensor:
    import torch

    found: Tensor = torch.linalg.eigvalsh(matrix)
    return found


def softened_kl(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) of softened logits, averaged over the batch (Hinton et al. 2015, section 2).

    The factor T² keeps its gradient's size when the temperature changes. Computed in float32.
    """
    log_s_BK = (student_BK.float() / temperature).log_softmax(1)
    log_t_BK = (teacher_BK.float() / temperature).log_softmax(1)
    kl_B = (log_t_BK.exp() * (log_t_BK - log_s_BK)).sum(1)
    loss: Tensor = kl_B.mean() * temperature**2
    return loss
