"""What the student's tangent kernel can say of the teacher."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy

# Ridge as a share of the kernel's mean eigenvalue.
_RIDGE = 0.1


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"ntk"},
    magnitude=False,
    source="this project; kernel ridge regression with the tangent kernel (Jacot et al. 2018), error left one out",
)
def kernel_ridge(ev: Evidence) -> float:
    """−log of the error of the teacher's logits for each image, told from the other images, over their variance.

    In closed form: with H = K (K + λI)⁻¹ the error left one out is (y − Hy)ᵢ / (1 − Hᵢᵢ).
    """
    import torch

    kernel_BB = ev.student.ntk_BB
    if kernel_BB is None or not kernel_BB.diagonal().sum() > 0:
        raise Undefined("no gradient reaches the weights")
    kernel_BB = kernel_BB.double()
    answer_BK = ev.teacher.logits_BK.double()
    answer_BK = answer_BK - answer_BK.mean(0)
    eye_BB = torch.eye(len(kernel_BB), dtype=kernel_BB.dtype, device=kernel_BB.device)
    ridge = _RIDGE * kernel_BB.diagonal().mean()
    # I − H = λ (K + λI)⁻¹, which stays exact where K is nearly singular.
    rest_BB = ridge * torch.linalg.inv(kernel_BB + ridge * eye_BB)
    error_BK = (rest_BB @ answer_BK) / rest_BB.diagonal().unsqueeze(1)
    return -float((error_BK.square().mean() / answer_BK.square().mean()).log())
