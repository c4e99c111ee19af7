from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d

from archsearch import precision
from archsearch.kernels import gram
from archsearch.precision import autocast, exact


def product() -> torch.Tensor:
    """Of float32 matrices, in whatever precision is on; 1 + 2⁻¹² is no bf16 number."""
    return torch.full((1, 1), 1 + 2**-12) @ torch.ones(1, 1)


def test_bf16_is_on_inside_and_off_again_outside() -> None:
    with autocast("bf16"):
        assert torch.is_autocast_enabled("cpu")
        assert product().dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
    assert product().dtype == torch.float32


def test_fp32_changes_nothing() -> None:
    with autocast("fp32"):
        assert product().dtype == torch.float32


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bf16_where_the_device_computes_in_it(monkeypatch, has_bf16: bool, dtype: torch.dtype) -> None:
    asked = []
    monkeypatch.setattr(precision, "_has_bf16", lambda kind: asked.append(kind) or has_bf16)
    with autocast("auto", torch.device("cpu")):
        assert product().dtype == dtype
    assert asked == ["cpu"]


def test_this_machine_can_be_asked() -> None:
    with autocast("auto"):
        assert product().dtype == (torch.bfloat16 if precision._has_bf16("cpu") else torch.float32)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_exact_is_float32_inside_bf16_which_goes_on_afterwards(device) -> None:
    with autocast("bf16"):
        with exact(device):
            assert product().dtype == torch.float32
            assert product().item() == 1 + 2**-12
        assert product().dtype == torch.bfloat16


def test_exact_alone_changes_nothing() -> None:
    with exact("cpu"):
        assert product().item() == 1 + 2**-12
    assert not torch.is_autocast_enabled("cpu")


def test_a_gram_matrix_inside_bf16_is_exact_only_inside_exact() -> None:
    x_BD = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    with autocast("bf16"):
        rough_BB = gram(x_BD)
        with exact("cpu"):
            assert gram(x_BD).equal(x_BD @ x_BD.T)
    assert rough_BB.dtype == torch.bfloat16, "what `exact` is there for"


def kernel_gradient(side: int, kernel: int, stride: int, padding: int, groups: int, half: Any) -> torch.Tensor:
    """Of a convolution, with memory about that is no number: what is not written shows."""
    draw = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(4, 32, side, side, generator=draw)
    weight = torch.randn(32, 32 // groups, kernel, kernel, generator=draw).requires_grad_()
    with half:
        y_BCHW = conv2d(x_BCHW, weight, None, stride, padding, 1, groups)
    nothing = [torch.full((weight.numel() // 2 * times,), torch.nan) for times in (1, 2, 2, 1, 4)]
    del nothing
    (found,) = torch.autograd.grad(y_BCHW.float().square().sum(), weight)
    return found


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"), [(1, 3, 2, 1), (1, 7, 2, 3), (2, 3, 4, 1), (5, 5, 4, 2), (2, 3, 2, 1)]
)
def test_a_kernel_that_reaches_beyond_small_maps_has_its_gradient_in_bf16(
    side: int, kernel: int, stride: int, padding: int, groups: int
) -> None:
    """oneDNN leaves in memory what no pixel tells: numbers of 1e31, or none."""
    setting = side, kernel, stride, padding, groups
    exactly = kernel_gradient(*setting, autocast("fp32"))
    for _ in range(5):  # what lies in memory is another thing each time
        torch.testing.assert_close(kernel_gradient(*setting, autocast("bf16")), exactly, rtol=0.05, atol=2.0)


def test_other_convolutions_are_in_bf16() -> None:
    x_BCHW, weight = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3, requires_grad=True)
    with autocast("bf16"):
        assert conv2d(x_BCHW, weight, None, 2, 1).dtype == torch.bfloat16
        assert conv2d(x_BCHW, weight, padding="same").dtype == torch.bfloat16
        assert conv2d(x_BCHW[..., :1, :1], weight, None, 2, 1).dtype == torch.float32
        with torch.no_grad():
            assert conv2d(x_BCHW[..., :1, :1], weight, None, 2, 1).dtype == torch.bfloat16
    with autocast("fp32"):
        assert conv2d(x_BCHW, weight, None, 2, 1).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_each_device_has_its_own_switch() -> None:
    with autocast("bf16", "cuda"):
        assert torch.is_autocast_enabled("cuda")
        assert product().dtype == torch.float32, "the CPU's is off"
        with exact("cuda"):
            assert not torch.is_autocast_enabled("cuda")
