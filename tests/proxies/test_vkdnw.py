from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from archsearch.proxies import Undefined
from archsearch.proxies.vkdnw import vkdnw

# P parameters


def test_eleven_eigenvalues_by_hand(evidence_of) -> None:
    # Eigenvalues 0 … 10 have the deciles 1 … 9, whose sum is 45.
    information_PP = torch.diag(torch.arange(11.0))
    expected = -sum(k / 45 * math.log(k / 45) for k in range(1, 10))
    assert vkdnw(evidence_of(fisher_information=information_PP)) == pytest.approx(expected, rel=1e-6)


def test_equal_eigenvalues_are_the_best_whatever_their_size(evidence_of) -> None:
    assert vkdnw(evidence_of(fisher_information=5 * torch.eye(7))) == pytest.approx(math.log(9), rel=1e-6)


def test_it_is_numpys_of_a_students_own_matrix(single) -> None:
    evidence = single.observe("fisher_information")
    values_P = np.linalg.svd(evidence.fisher_information_PP.double().numpy(), compute_uv=False)
    decile_9 = np.quantile(values_P, np.arange(1, 10) / 10)
    share_9 = decile_9 / decile_9.sum()
    assert vkdnw(evidence) == pytest.approx(-(share_9 * np.log(share_9)).sum(), rel=1e-6)


def test_it_is_undefined_without_gradients(evidence_of) -> None:
    with pytest.raises(Undefined, match="no gradient"):
        vkdnw(evidence_of(fisher_information=torch.zeros(4, 4)))
