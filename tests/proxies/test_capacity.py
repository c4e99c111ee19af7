from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from archsearch.evidence import Layer
from archsearch.proxies.capacity import capacity, initial_rank


def carried(d_out: float, d_in: float) -> float:
    return initial_rank(d_out, d_in) * math.log1p(initial_rank(d_out, d_in))


def test_layers_by_hand(evidence_of, layers: tuple[Layer, ...]) -> None:
    # Four groups of 8×72, 32 groups of 1×9; the classifier does not count.
    live = tuple((layer, torch.tensor(True)) for layer in layers)
    expected = carried(16, 27) + 4 * carried(8, 72) + 32 * carried(1, 9) + carried(32, 16)
    assert float(capacity(evidence_of(layers, live=live))) == pytest.approx(expected, rel=1e-5)
    # 16 · e^(−16/64) = 12.46 directions, log(1 + 12.46) nats each.
    assert carried(32, 16) == pytest.approx(12.4608 * 2.5998, rel=1e-4)


def test_a_layer_the_loss_does_not_reach_carries_nothing(evidence_of, layers: tuple[Layer, ...]) -> None:
    live = tuple((layer, torch.tensor(layer.name == "mlp")) for layer in layers)
    assert float(capacity(evidence_of(layers, live=live))) == pytest.approx(carried(32, 16), rel=1e-5)


@pytest.mark.parametrize(("d_out", "d_in"), [(64, 64), (64, 256), (300, 100)])
def test_the_rank_is_that_of_a_random_matrix(d_out: int, d_in: int) -> None:
    weight_OI = np.random.default_rng(0).standard_normal((d_out, d_in))
    share = np.linalg.svd(weight_OI, compute_uv=False) ** 2
    share /= share.sum()
    assert initial_rank(d_out, d_in) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=0.02)
    assert initial_rank(d_out, d_in) == initial_rank(d_in, d_out) < min(d_out, d_in)


def test_it_saturates_where_parameters_do_not(evidence_of) -> None:
    """Ten times as wide an MLP on 64 channels: ten times the parameters, about twice the capacity."""
    mlps = [Layer("mlp", width, 64, 1, 1, 1, is_head=False) for width in (64, 640)]
    narrow, wide = (float(capacity(evidence_of((mlp,), live=((mlp, torch.tensor(True)),)))) for mlp in mlps)
    assert 1.5 < wide / narrow < 2.1


def test_dead_layers_of_a_real_cell_do_not_count(pair_of) -> None:
    """NAS-Bench-201's cell with every operation: what it carries is what autograd says that it trains."""
    pair = pair_of("nasbench201")
    student = pair.student().train()
    loss = torch.nn.functional.cross_entropy(student(pair.x_BCHW), pair.y_B)
    trained = {}
    for name, parameter in student.named_parameters():
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)
        trained[name.removesuffix(".weight")] = gradient is not None and bool(gradient.any())
    evidence = pair.evidence()
    counted = {layer.name for layer, alive in evidence.live if alive}
    assert counted == {layer.name for layer in evidence.layers if trained[layer.name]}
