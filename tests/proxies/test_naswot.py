from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from archsearch.evidence import Codes
from archsearch.proxies import Undefined
from archsearch.proxies.naswot import naswot

# B batch, U units


def test_two_images_by_hand(evidence_of) -> None:
    # Codes (1, 1, 0) and (1, 0, 0) agree in two of three units: K = ((3, 2), (2, 3)), whose determinant is 5.
    code_BU = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    assert naswot(evidence_of(codes=Codes(code_BU @ code_BU.T, 3))) == pytest.approx(math.log(5))


def test_it_is_that_of_units_counted_one_by_one(pair) -> None:
    student, codes = pair.student().train(), []
    for module in student.modules():
        if type(module).__name__ in ("ReLU", "GELU", "Hardswish"):  # timm has a GELU of its own
            module.register_forward_pre_hook(lambda _m, inputs: codes.append((inputs[0] > 0).flatten(1).numpy()))
    with torch.no_grad():
        student(pair.x_BCHW)
    code_BU = np.concatenate(codes, 1)
    agreements = [[int((a == b).sum()) for b in code_BU] for a in code_BU]
    assert naswot(pair.evidence()) == pytest.approx(np.linalg.slogdet(np.array(agreements, float))[1], rel=1e-5)


def test_it_is_undefined_where_two_images_look_the_same(evidence_of) -> None:
    with pytest.raises(Undefined, match="same activation code"):
        naswot(evidence_of(codes=Codes(torch.full((2, 2), 4.0), 4)))


def test_it_is_undefined_without_activations(evidence_of) -> None:
    with pytest.raises(Undefined, match="no ReLU"):
        naswot(evidence_of(codes=Codes(None, 0)))
