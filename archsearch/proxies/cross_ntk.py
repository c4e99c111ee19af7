"""Alignment with the teacher's tangent kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"ntk"},
    magnitude=False,
    source="kernel alignment (Cristianini et al. 2001) of tangent kernels (Jacot et al. 2018), centred as in CKA",
)
def cross_ntk(ev: Evidence) -> Tensor:
    """How alike student and teacher would move their answers to the batch: CKA of their neural tangent kernels."""
    s_BB, t_BB = ev.student.ntk_BB, ev.teacher.ntk_BB
    if s_BB is None or t_BB is None:
        raise Undefined("no gradient reaches the weights")
    return kernels.cka(s_BB, t_BB)
