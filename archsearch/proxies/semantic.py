"""Likeness of the classifier's class gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "labels",
    "teacher",
    reads={"head"},
    magnitude=False,
    source="DisWOT, Dong et al. 2023, eq. 3-4, in closed form",
)
def semantic(ev: Evidence) -> Tensor:
    """How alike the class gradients of the two classifiers are: −Σ_c ‖E_c(T) − E_c(S)‖²_F / (K·D).

    E_c, the row-normalised g_c g_cᵀ of class c's gradient g_c, has rank one, so the D×D matrices need not exist:
    the sum is −2 + 2·mean_c[cos(s_c, t_c) · mean_i sign(s_ci · t_ci)], where each zero entry of s or t, whose row of
    E_c is zero too, takes 1/(K·D) off the 2. Needs classifiers of equal width.
    """
    s_KD, t_KD = head_gradients(ev)
    if s_KD.shape != t_KD.shape:
        raise Undefined(f"the student's head has {s_KD.shape[1]} inputs, the teacher's {t_KD.shape[1]}")
    norms_K = (s_KD.norm(dim=1) * t_KD.norm(dim=1)).clamp_min(1e-12)
    cosine_K = (s_KD * t_KD).sum(1) / norms_K
    agreement_K = (s_KD * t_KD).sign().mean(1)
    live = (s_KD != 0).float().mean() + (t_KD != 0).float().mean()
    found: Tensor = 2 * (cosine_K * agreement_K).mean() - live
    return found


def head_gradients(ev: Evidence) -> tuple[Tensor, Tensor]:
    """Of student and teacher, K×D each; the widths D may differ."""
    s_KD, t_KD = ev.student.head_gradient_KD, ev.teacher.head_gradient_KD
    if s_KD is None or t_KD is None:
        raise Undefined("one of the networks has no linear head")
    if not s_KD.any():
        raise Undefined("no feature reaches the student's head")
    return s_KD, t_KD
