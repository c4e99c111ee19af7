"""The few formulas that scores and losses share, written once.

torch is imported where tensor methods do not suffice, so that listing proxies or losses never imports torch.
"""

# B batch, D features, N tokens, H W space, K classes, G groups of N points (or N positions of a map)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


def added(values: Iterable[Tensor]) -> Tensor:
    """The sum of single numbers in their order, in float64, where they lie: nobody waits for one after the other."""
    import torch

    total: Tensor | None = None
    for value in values:
        total = value.double() if total is None else total + value.double()
    return torch.zeros((), dtype=torch.float64) if total is None else total


def gram(features: Tensor) -> Tensor:
    """F·Fᵀ of a batch's flattened features, B×B in float32, from B×… of any shape: networks of any width compare."""
    features_BD = features.flatten(1).float()
    gram_BB: Tensor = features_BD @ features_BD.T
    return gram_BB


def masked_mean(tokens_BND: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Mean of each example's real tokens, B×D in float32; zeros where an example has none.

    Args:
        mask_BN: Which tokens are real; None where all are.
    """
    tokens_BND = tokens_BND.float()
    if mask_BN is None:
        return tokens_BND.mean(1)
    # Not by a product with 0, which leaves what is not finite in padding as it is.
    total_BD: Tensor = tokens_BND.masked_fill(~mask_BN[:, :, None], 0).sum(1)
    return total_BD / mask_BN.sum(1, keepdim=True).clamp_min(1)


def relation(gram_BB: Tensor) -> Tensor:
    """How alike the samples of a batch are: the row-normalised Gram matrix. A row of zeros stays zero.

    Source: similarity-preserving distillation (Tung and Mori 2019, eq. 2-3); DisWOT (Dong et al. 2023, eq. 5).
    """
    norm_B1: Tensor = gram_BB.norm(dim=1, keepdim=True)
    return gram_BB / norm_B1.clamp_min(1e-12)


def correlation(features: Tensor, mask_BN: Tensor | None = None) -> Tensor:
    """Pearson correlation of a batch's flattened rows, B×B in float32; a row without variance correlates with none.

    Args:
        mask_BN: Of features B×N×D, which of the N are real. The others are no part of a row's mean, and lie on it.
    """
    features_BD = features.flatten(1).float()
    if mask_BN is None:
        centred_BD = features_BD - features_BD.mean(1, keepdim=True)
    else:
        real_BD = mask_BN.repeat_interleave(features.shape[2], 1)
        mean_B1 = features_BD.masked_fill(~real_BD, 0).sum(1, keepdim=True) / real_BD.sum(1, keepdim=True).clamp_min(1)
        centred_BD = (features_BD - mean_B1).masked_fill(~real_BD, 0)
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


def standardised(logits_BK: Tensor) -> Tensor:
    """Logits less their mean, over their deviation, image by image (Sun et al. 2024), in float32.

    Only their order and relative distances are left; an image whose logits are all equal keeps zeros.
    """
    z_BK = logits_BK.float()
    scaled_BK: Tensor = (z_BK - z_BK.mean(1, keepdim=True)) / (z_BK.std(1, keepdim=True) + 1e-7)
    return scaled_BK


def bernoulli_kl(student_BK: Tensor, teacher_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """T²·KL(teacher ‖ student) of one yes or no a label, summed over labels and averaged over images, in float32.

    Source: Yang et al. 2023 (L2D), multi-label logits distillation, where T is 1. Computed from logits, so that a sure
    network is infinitely wrong nowhere.
    """
    from torch.nn.functional import logsigmoid

    s_BK, t_BK = student_BK.float() / temperature, teacher_BK.float() / temperature
    yes_BK = t_BK.sigmoid() * (logsigmoid(t_BK) - logsigmoid(s_BK))
    no_BK = (-t_BK).sigmoid() * (logsigmoid(-t_BK) - logsigmoid(-s_BK))
    loss: Tensor = (yes_BK + no_BK).sum(1).mean() * temperature**2
    return loss


def label_embeddings(map_BDHW: Tensor, weight_KD: Tensor) -> Tensor:
    """What every channel adds to every label's logit where the label is seen, B×K×D in float32.

    Positions are weighed by a softmax of the label's class activation (Zhu and Wu 2021, "Residual attention"),
    and channels by the label's own weights in the classifier.
    """
    map_BND, w_KD = map_BDHW.float().flatten(2).transpose(1, 2), weight_KD.float()
    attention_BNK = (map_BND @ w_KD.T).softmax(1)
    found_BKD: Tensor = (attention_BNK.transpose(1, 2) @ map_BND) * w_KD
    return found_BKD


def structure_gap(student_GND: Tensor, teacher_GND: Tensor, member_GN: Tensor) -> Tensor:
    """How differently two networks space the members of each of G groups of N points, G in float32.

    Distances of a group are divided by their mean, compared by Huber's loss, summed over ordered pairs and divided by
    the number of members (Yang et al. 2023, L2D, after the distances of Park et al. 2019, RKD). 0 for fewer than
    two members.

    Args:
        member_GN: Which points of a group count, as bool.
    """
    import torch
    from torch.nn.functional import smooth_l1_loss

    others_NN = ~torch.eye(member_GN.shape[1], dtype=torch.bool, device=member_GN.device)
    pair_GNN = member_GN[:, :, None] & member_GN[:, None, :] & others_NN
    gap_GNN = smooth_l1_loss(_apart(student_GND, pair_GNN), _apart(teacher_GND, pair_GNN), reduction="none")
    gap_G: Tensor = gap_GNN.sum((1, 2)) / member_GN.sum(1).clamp_min(1)
    return gap_G


def _apart(points_GND: Tensor, pair_GNN: Tensor) -> Tensor:
    """Distances of the pairs over their mean in each group; 0 for what is no pair."""
    import torch

    x_GND = points_GND.float()
    # Not by way of a matrix product, which loses what near points differ in.
    found_GNN = torch.cdist(x_GND, x_GND, compute_mode="donot_use_mm_for_euclid_dist") * pair_GNN
    mean_G = found_GNN.sum((1, 2), keepdim=True) / pair_GNN.sum((1, 2), keepdim=True).clamp_min(1)
    apart_GNN: Tensor = found_GNN / mean_G.clamp_min(1e-12)
    return apart_GNN


def label_loss(logits_BK: Tensor, y: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """What the labels alone teach: cross-entropy with one label an image (y: B), binary cross-entropy with many (B×K).

    The binary one is summed over the labels and averaged over the images, as is usual in multi-label learning. Computed
    in float32.

    Args:
        weight_B: What each image counts for; the sum is still divided by their number.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    if y.ndim == 1 and weight_B is not None:
        return (weight_B * cross_entropy(logits_BK.float(), y, reduction="none")).mean()
    if y.ndim == 1:
        return cross_entropy(logits_BK.float(), y)
    if weight_B is not None:
        loss_BK = binary_cross_entropy_with_logits(logits_BK.float(), y.float(), reduction="none")
        return (weight_B * loss_BK.sum(1)).mean()
    return binary_cross_entropy_with_logits(logits_BK.float(), y.float(), reduction="sum") / len(y)


def label_residual(logits_BK: Tensor, y: Tensor) -> Tensor:
    """B·∂L/∂z of `label_loss`, in closed form: softmax or, with many labels, sigmoid of the logits, less the labels."""
    import torch

    if y.ndim == 2:
        return logits_BK.float().sigmoid() - y.float()
    residual_BK = logits_BK.float().softmax(1)
    return residual_BK.scatter_add(1, y[:, None], -torch.ones_like(residual_BK[:, :1]))


def answered(logits_BK: Tensor, like: Tensor) -> Tensor:
    """What a network answers, in the form of labels: the likeliest class, or every label that is likelier than not."""
    return logits_BK.argmax(1) if like.ndim == 1 else (logits_BK > 0).to(like.dtype)
