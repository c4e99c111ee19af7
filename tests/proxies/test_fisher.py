from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.proxies.fisher import fisher

# B batch, C channels


def test_one_layer_by_hand(evidence_of) -> None:
    # Channel one: (1² + 3²)/2 = 5, channel two: (0 + 2²)/2 = 2, halved.
    assert fisher(evidence_of(fisher=(torch.tensor([[1.0, 0.0], [3.0, -2.0]]),))) == pytest.approx(3.5)


def test_it_is_what_removing_a_channel_costs_to_second_order(single) -> None:
    """Turner's own definition: Σ over channels of ½ · mean over images of (∂L/∂m)², m a mask of ones on the channel."""
    masks, model = [], single.model

    def mask(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        channels_last = output.ndim == 3
        shape = (len(output), 1, output.shape[-1]) if channels_last else (*output.shape[:2], *[1] * (output.ndim - 2))
        masks.append(torch.ones(shape, requires_grad=True))
        return output * masks[-1]

    hooks = [model.get_submodule(name).register_forward_hook(mask) for name in single.layers]
    loss = cross_entropy(model(single.x_BCHW), single.y_B)
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(loss, masks)
    expected = sum(0.5 * gradient.square().mean(0).sum().item() for gradient in gradients)
    assert fisher(single.observe("fisher")) == pytest.approx(expected, rel=1e-4)
