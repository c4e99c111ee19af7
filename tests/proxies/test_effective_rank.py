from __future__ import annotations

import numpy as np
import pytest
import torch

from archsearch.proxies.effective_rank import effective_rank

# B batch, C channels, H W space


def test_two_pairs_of_equal_images_by_hand(evidence_of) -> None:
    # Eigenvalues 2, 2, 0, 0: two directions for four images.
    kernel_BB = torch.kron(torch.eye(2), torch.ones(2, 2))
    assert float(effective_rank(evidence_of(batch_size=4, jacobian=kernel_BB))) == pytest.approx(0.5)


def test_it_lies_between_one_direction_and_as_many_as_images(evidence_of) -> None:
    assert float(effective_rank(evidence_of(batch_size=5, jacobian=torch.ones(5, 5)))) == pytest.approx(1 / 5)
    assert float(effective_rank(evidence_of(batch_size=5, jacobian=torch.eye(5)))) == pytest.approx(1)


def test_it_is_that_of_jacobians_taken_image_by_image(single) -> None:
    jacobians = []
    for i in range(len(single.y_B)):
        x_1CHW = single.x_BCHW[i : i + 1].clone().requires_grad_()
        (gradient_1CHW,) = torch.autograd.grad(single.model(x_1CHW).sum(), x_1CHW)
        jacobians.append(gradient_1CHW.flatten().double().numpy())
    share_B = np.linalg.eigvalsh(np.corrcoef(jacobians)).clip(1e-300) / len(jacobians)
    expected = np.exp(-(share_B * np.log(share_B)).sum()) / len(jacobians)
    assert float(effective_rank(single.observe("jacobian"))) == pytest.approx(expected, rel=1e-4)
