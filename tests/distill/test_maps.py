from __future__ import annotations

import torch

from archsearch.distill.maps import pooled, same_size, smaller

# B batch, C channels, H W space


def test_the_larger_map_is_averaged_down_by_hand() -> None:
    small = torch.tensor([[[[7.0]]]])
    large = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    first, second = same_size(small, large)
    assert first.item() == 7
    assert second.item() == 3
    second, first = same_size(large, small)
    assert (first.item(), second.item()) == (7, 3)


def test_widths_stay_and_each_side_of_a_map_takes_the_smaller() -> None:
    first, second = same_size(torch.zeros(2, 3, 8, 4), torch.zeros(2, 5, 6, 7))
    assert first.shape == (2, 3, 6, 4)
    assert second.shape == (2, 5, 6, 4)
    assert smaller(torch.zeros(2, 3, 8, 4), torch.zeros(2, 5, 6, 7)) == (6, 4)


def test_a_map_of_the_right_size_is_not_copied() -> None:
    map_BCHW = torch.randn(2, 3, 4, 4)
    assert pooled(map_BCHW, 4, 4) is map_BCHW


def test_averages_of_bf16_are_taken_in_float32() -> None:
    # In bf16, 256 + 1 is 256.
    map_BCHW = torch.tensor([[[[256.0, 1.0]]]]).bfloat16()
    average = pooled(map_BCHW, 1, 1)
    assert average.dtype == torch.float32
    assert average.item() == 128.5
