from __future__ import annotations

import pytest
import torch
from torch import nn

from archsearch.proxies import Undefined
from archsearch.proxies.isometry import isometry


def test_blocks_by_hand(evidence_of) -> None:
    gains = tuple(torch.tensor(gain) for gain in (1.0, 2.0, 0.5))
    assert float(isometry(evidence_of(gains=gains))) == pytest.approx(-1 / 3)


def test_a_block_cut_off_is_the_worst_there_is(evidence_of) -> None:
    assert float(isometry(evidence_of(gains=(torch.tensor(0.0),)))) == -4


def test_it_is_undefined_without_blocks(evidence_of) -> None:
    with pytest.raises(Undefined, match="no blocks"):
        isometry(evidence_of(gains=()))


@pytest.mark.slow
def test_it_is_that_of_the_exact_jacobians_norm(pair_of) -> None:
    """A block of a real student: ‖J‖_F / √outputs of its whole Jacobian, row by row, against the one random probe."""
    pair = pair_of("vit")
    student = pair.student().train()
    (block, *_) = student.blocks
    seen: list[torch.Tensor] = []
    hook = block.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach()))
    student(pair.x_BCHW)
    hook.remove()
    exact = []
    for x_1ND in seen[0].split(1):
        jacobian = torch.autograd.functional.jacobian(block, x_1ND)
        exact.append(jacobian.square().sum() / x_1ND.numel())
    gain = torch.stack(exact).mean().sqrt()
    draws = [pair.fresh_evidence(reads={"gains"}, draw=i).gains[0] for i in range(8)]
    assert float(torch.stack(draws).mean()) == pytest.approx(float(gain), rel=0.02)
    assert isinstance(block, nn.Module)
