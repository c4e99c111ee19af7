from __future__ import annotations

import numpy as np
import pytest
import torch

from archsearch.kernels import softened_kl
from archsearch.proxies.gradient_rank import gradient_rank

# B batch, C channels, H W space


def test_two_pairs_of_equal_directions_by_hand(evidence_of) -> None:
    # Eigenvalues 2, 2, 0, 0: two directions for four images, and 2 − ½ − 2.
    kernel_BB = torch.kron(torch.eye(2), torch.ones(2, 2))
    assert float(gradient_rank(evidence_of(batch_size=4, input_kernel=kernel_BB))) == pytest.approx(-0.5)


def test_it_is_0_where_all_directions_differ_and_bounded_where_none_do(evidence_of) -> None:
    assert float(gradient_rank(evidence_of(batch_size=9, input_kernel=torch.eye(9)))) == pytest.approx(0, abs=1e-6)
    # One direction for nine images: 2 − 1/9 − 9 is clipped.
    assert float(gradient_rank(evidence_of(batch_size=9, input_kernel=torch.ones(9, 9)))) == -4
    assert float(gradient_rank(evidence_of(batch_size=9, input_kernel=torch.zeros(9, 9)))) == -4


def test_it_is_that_of_gradients_taken_image_by_image(single) -> None:
    gradients = []
    for i in range(len(single.y_B)):
        x_1CHW = single.x_BCHW[i : i + 1].clone().requires_grad_()
        loss = softened_kl(single.model(x_1CHW), single.teacher.logits_BK[i : i + 1], 4.0)
        gradients.append(torch.autograd.grad(loss, x_1CHW)[0].flatten().double().numpy())
    share_B = np.linalg.eigvalsh(np.corrcoef(gradients)).clip(1e-300) / len(gradients)
    x = np.exp(-(share_B * np.log(share_B)).sum()) / len(gradients)
    assert float(gradient_rank(single.observe("input_kernel"))) == pytest.approx(2 - x - 1 / x, rel=1e-3)
