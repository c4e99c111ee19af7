from __future__ import annotations

import torch

from archsearch.distill.adapters.layers import ConvNorm

# B batch, C channels, H W space


def test_a_batch_is_normalised_by_itself_in_training() -> None:
    torch.manual_seed(0)
    layer = ConvNorm(3, 5)
    y_BCHW = layer(torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)))
    assert y_BCHW.shape == (4, 5, 6, 6)
    torch.testing.assert_close(y_BCHW.mean((0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y_BCHW.var((0, 2, 3), correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_a_single_value_a_channel_is_normalised_by_what_was_seen_before() -> None:
    """Batch normalisation itself refuses it; the running mean 1 and variance 4 make 5 into (5 − 1) / 2."""
    layer = ConvNorm(1, 1)
    with torch.no_grad():
        layer.conv.weight.fill_(1)
        layer.norm.running_mean.fill_(1)
        layer.norm.running_var.fill_(4)
    y_BCHW = layer(torch.tensor([[[[5.0]]]]))
    torch.testing.assert_close(y_BCHW, torch.tensor([[[[2.0]]]]), atol=1e-4, rtol=0)
    assert layer.norm.num_batches_tracked == 0


def test_kernels_keep_the_resolution() -> None:
    assert ConvNorm(2, 3, kernel=3)(torch.zeros(2, 2, 5, 4)).shape == (2, 3, 5, 4)
