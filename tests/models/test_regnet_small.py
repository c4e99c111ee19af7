from __future__ import annotations

import pytest
import timm
import torch

# B batch, C channels, H W space


@pytest.mark.parametrize("se_ratio", [0.0, 0.25])
@pytest.mark.parametrize(
    ("strides", "sides"), [((1, 1, 2, 2, 2), (32, 32, 16, 8, 4)), ((2, 1, 1, 2, 1), (16, 16, 16, 8, 8))]
)
def test_strides_are_those_asked_for(se_ratio: float, strides: tuple[int, ...], sides: tuple[int, ...]) -> None:
    model = timm.create_model("regnet_small", strides=strides, se_ratio=se_ratio, num_classes=10).eval()
    x_BCHW = torch.rand(1, 3, 32, 32)
    found = [tuple(level.shape[2:]) for level in model.forward_intermediates(x_BCHW)[1]]
    assert found == [(side, side) for side in sides]
    assert [level["reduction"] for level in model.feature_info] == [32 // side for side in sides]


def test_with_timms_own_strides_it_is_timms_own_network() -> None:
    ours = timm.create_model("regnet_small", strides=[2, 2, 2, 2, 2], num_classes=10).eval()
    theirs = timm.create_model("regnetx_002", num_classes=10).eval()
    theirs.load_state_dict(ours.state_dict())
    x_BCHW = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert ours(x_BCHW).equal(theirs(x_BCHW))


def test_strides_are_five() -> None:
    with pytest.raises(ValueError, match="five strides"):
        timm.create_model("regnet_small", strides=[1, 2])
