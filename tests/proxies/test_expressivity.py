from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from archsearch.evidence.layers import blocks, first_tensor
from archsearch.proxies import Undefined
from archsearch.proxies.expressivity import expressivity

# C channels, N positions of all images


def test_two_blocks_by_hand(evidence_of) -> None:
    # Four equal eigenvalues are worth ln 4, a single one nothing, whatever the scale.
    evidence = evidence_of(spectra=(torch.full((4,), 7.0), torch.tensor([0.0, 0.0, 3.0])))
    assert expressivity(evidence) == pytest.approx(math.log(4), abs=1e-6)


def test_it_is_that_of_the_covariance_of_a_real_students_blocks(pair) -> None:
    student, expected = pair.student().train(), []

    def keep(_module: torch.nn.Module, _inputs: object, output: object) -> None:
        map_BX = first_tensor(output).detach().double()
        rows_NC = (map_BX.movedim(1, -1) if map_BX.ndim == 4 else map_BX).reshape(
            -1, map_BX.shape[1 if map_BX.ndim == 4 else 2]
        )
        values_C = np.linalg.eigvalsh(np.cov(rows_NC.numpy(), rowvar=False)).clip(1e-300)
        share_C = values_C / values_C.sum()
        expected.append(-(share_C * np.log(share_C)).sum())

    for block in blocks(student):
        block.register_forward_hook(keep)
    student(pair.x_BCHW)
    assert len(expected) >= 2
    assert expressivity(pair.evidence()) == pytest.approx(sum(expected), rel=1e-3)


def test_it_is_undefined_without_blocks(evidence_of) -> None:
    with pytest.raises(Undefined, match="no blocks"):
        expressivity(evidence_of(spectra=()))
