"""What a trained network's features know of a teacher's answers, in closed form: nothing is trained.

Each number is of one batch: the features that a network's last layer reads, and what the teacher answers.
"""

# N examples, D features, K classes, R directions

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.inherit.start import divergence
from archsearch.kernels import cka, gram
from archsearch.ridge import Ridge, leave_one_out

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS, _CLOSE = 200, 1e-8
_TINY = 1e-12


@dataclass(frozen=True)
class Known:
    """What features know of a teacher.

    Attributes:
        nats: Mean KL(teacher ‖ student) of the closed-form head, each example by a fit of the others; the ridge is the
            one that makes it least.
        r2: Share of the variance of the teacher's logits that the same predictions explain; below 0 where the mean of
            the others would be nearer.
        logme: See `logme`.
        cka: Likeness to the teacher's own features; None where it shows none.
        head: The map from features to logits, as of all examples.
    """

    nats: float
    r2: float
    logme: float
    cka: float | None
    head: Ridge

    @property
    def proxies(self) -> dict[str, float | None]:
        """By name, as a trial keeps them."""
        return {"teacher_kl": self.nats, "loo_r2": self.r2, "logme": self.logme, "cka": self.cka}


def known(features_ND: Tensor, logits_NK: Tensor, kind: str, theirs_ND: Tensor | None = None) -> Known:
    """Score features by a teacher's answers.

    Args:
        logits_NK: The teacher's.
        kind: `multilabel`, or one answer an example, whose logits count less their mean alone.
        theirs_ND: The teacher's own features of the same examples.
    """
    wanted_NK = logits_NK.double()
    if kind != "multilabel":
        wanted_NK = wanted_NK - wanted_NK.mean(1, keepdim=True)
    head = leave_one_out(features_ND, wanted_NK, loss=lambda said_NK: divergence(wanted_NK, said_NK, kind))
    spread = (wanted_NK - wanted_NK.mean(0)).square().sum().clamp_min(_TINY)
    return Known(
        nats=divergence(wanted_NK, head.predictions_NK, kind),
        r2=1 - float((wanted_NK - head.predictions_NK).square().sum() / spread),
        logme=logme(features_ND, wanted_NK - wanted_NK.mean(0)),
        cka=None if theirs_ND is None else float(cka(gram(features_ND), gram(theirs_ND))),
        head=head,
    )


def logme(features_ND: Tensor, targets_NK: Tensor) -> float:
    """Log of the maximum evidence of a Bayesian linear model, in nats an example, mean over the targets.

    y = Fw + ε, w ~ N(0, α⁻¹), ε ~ N(0, β⁻¹); α and β are those of most evidence, by MacKay's fixed point (You et al.
    2021, LogME, ICML, eq. 2 and algorithm 1; the singular values of F serve every target, as in algorithm 3). Targets
    here are a teacher's logits rather than labels.
    """
    import torch

    f_ND, y_NK = features_ND.double(), targets_NK.double()
    count, width = f_ND.shape
    left_NR, singular_R, _ = torch.linalg.svd(f_ND, full_matrices=False)
    s_R1, z2_RK = singular_R.square()[:, None], (left_NR.T @ y_NK).square()
    beyond_K = (y_NK.square().sum(0) - z2_RK.sum(0)).clamp_min(0)
    alpha_K = beta_K = torch.ones_like(beyond_K)
    for _ in range(_ROUNDS):
        ratio_K = alpha_K / beta_K
        gamma_K = (s_R1 / (s_R1 + ratio_K)).sum(0)
        weight_K, error_K = _squares(s_R1, z2_RK, ratio_K, beyond_K)
        alpha_K, beta_K = gamma_K / weight_K.clamp_min(_TINY), (count - gamma_K) / error_K.clamp_min(_TINY)
        if bool(((alpha_K / beta_K) / ratio_K - 1).abs().max() < _CLOSE):
            break
    weight_K, error_K = _squares(s_R1, z2_RK, alpha_K / beta_K, beyond_K)
    log_determinant_K = (alpha_K + beta_K * s_R1).log().sum(0) + (width - len(s_R1)) * alpha_K.log()
    evidence_K = 0.5 * (
        count * beta_K.log()
        + width * alpha_K.log()
        - count * torch.log(torch.tensor(2 * torch.pi))
        - beta_K * error_K
        - alpha_K * weight_K
        - log_determinant_K
    )
    return float(evidence_K.mean()) / count


def _squares(s_R1: Tensor, z2_RK: Tensor, ratio_K: Tensor, beyond_K: Tensor) -> tuple[Tensor, Tensor]:
    """Of the most likely weights and of what they leave over, for each target."""
    shrunk_RK = s_R1 + ratio_K
    weight_K: Tensor = (s_R1 * z2_RK / shrunk_RK.square()).sum(0)
    error_K: Tensor = (ratio_K.square() * z2_RK / shrunk_RK.square()).sum(0) + beyond_K
    return weight_K, error_K
