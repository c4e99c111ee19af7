from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from archsearch.proxies.jacob_cov import jacob_cov


def test_two_images_by_hand(evidence_of) -> None:
    # A correlation of 0.6 has eigenvalues 1.6 and 0.4; independent images have 1 and 1, the best there is.
    kernel_BB = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    expected = -sum(math.log(value + 1e-5) + 1 / (value + 1e-5) for value in (0.4, 1.6))
    assert jacob_cov(evidence_of(batch_size=2, jacobian=kernel_BB)) == pytest.approx(expected, rel=1e-5)
    assert jacob_cov(evidence_of(batch_size=2, jacobian=torch.eye(2))) == pytest.approx(-2, rel=1e-4)


def test_it_is_the_published_code_on_jacobians_taken_image_by_image(single) -> None:
    jacobians = []
    for i in range(len(single.y_B)):
        x_1CHW = single.x_BCHW[i : i + 1].clone().requires_grad_()
        (gradient_1CHW,) = torch.autograd.grad(single.model(x_1CHW).sum(), x_1CHW)
        jacobians.append(gradient_1CHW.flatten().double().numpy())
    values_B = np.linalg.eigvalsh(np.corrcoef(jacobians)) + 1e-5
    # The smallest eigenvalue decides, and in float32 it is exact to a few hundredths of a percent.
    assert jacob_cov(single.observe("jacobian")) == pytest.approx(-np.sum(np.log(values_B) + 1 / values_B), rel=1e-2)
