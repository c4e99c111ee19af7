from __future__ import annotations

import pytest
import timm
import torch

from archsearch.models import SmallResNet

# B batch, C channels, H W space


def small(**args: object) -> SmallResNet:
    sizes = {"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 32], "stem_chs": 8, "num_classes": 10}
    model: SmallResNet = timm.create_model("resnet_small", **{**sizes, **args})
    return model.eval()


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize(
    ("strides", "sides"), [((1, 1, 2, 2, 2), (32, 32, 16, 8, 4)), ((2, 1, 1, 2, 1), (16, 16, 16, 8, 8))]
)
def test_strides_are_those_asked_for(block: str, strides: tuple[int, ...], sides: tuple[int, ...]) -> None:
    model = small(block=block, strides=strides)
    x_BCHW = torch.rand(1, 3, 32, 32)
    found = [tuple(level.shape[2:]) for level in model.forward_intermediates(x_BCHW)[1]]
    assert found == [(side, side) for side in sides]
    assert [level["reduction"] for level in model.feature_info] == [32 // side for side in sides]


def test_of_the_deep_stem_one_convolution_is_left() -> None:
    model = small(in_chans=1)
    assert model.conv1.weight.shape == (8, 1, 3, 3)
    assert not [name for name, _ in model.named_modules() if name.startswith(("conv1.", "maxpool."))]


def test_sizes_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="an even stem"):
        small(stem_chs=7)
    with pytest.raises(ValueError, match="five strides"):
        small(strides=(1, 2))
