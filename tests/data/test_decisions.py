from __future__ import annotations

import numpy as np
import pytest
import torch

from archsearch.data.decisions import decided, decided_once, decisions
from archsearch.data.metrics import ACCURACY, measure


def test_one_decision_an_example_is_left_as_it_is() -> None:
    answers_BK = torch.randn(4, 3)
    for targets in (torch.tensor([0, 2, 1, 1]), torch.eye(4)[:, :3]):
        found = decisions(targets)
        assert found.rows(answers_BK) is answers_BK
        assert found.targets_M is targets
        assert found.example_M is None


def test_pixels_that_count_are_rows_in_the_order_of_their_labels() -> None:
    y_BHW = torch.tensor([[[1, -1], [0, 2]], [[-1, -1], [-1, 1]]])
    answers_BKHW = torch.arange(24.0).reshape(2, 3, 2, 2)
    found = decisions(y_BHW)
    assert found.targets_M.tolist() == [1, 0, 2, 1]
    assert found.example_M is not None
    assert found.example_M.tolist() == [0, 0, 0, 1]
    assert found.rows(answers_BKHW).tolist() == [[0, 4, 8], [2, 6, 10], [3, 7, 11], [15, 19, 23]]
    # As torch's own cross-entropy counts them.
    of_torch = torch.nn.functional.cross_entropy(answers_BKHW, y_BHW, ignore_index=-1)
    assert torch.nn.functional.cross_entropy(found.rows(answers_BKHW), found.targets_M).item() == pytest.approx(
        of_torch.item()
    )


def test_tokens_are_decisions_as_pixels_are() -> None:
    y_BT, answers_BKT = torch.tensor([[2, -100, 0]]), torch.arange(9.0).reshape(1, 3, 3)
    assert decisions(y_BT).rows(answers_BKT).tolist() == [[0, 3, 6], [2, 5, 8]]


def test_many_labels_are_bytes_and_no_rows() -> None:
    assert decided_once(np.array([[0, 1]], np.uint8))
    assert decided_once(np.array([3, 1]))
    assert not decided_once(np.array([[3, 1]]))


class Pixels:
    """Two images of four pixels each, one of which does not count."""

    y_N = np.array([[[0, 1], [1, -1]], [[1, 1], [0, 0]]])

    def __len__(self) -> int:
        return 2

    def examples(self, rows: slice) -> torch.Tensor:
        shown = torch.tensor([[[0.0, 1], [0, 1]], [[1, 1], [1, 0]]])
        return torch.stack((1 - shown, shown), 1)[rows]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_metrics_count_the_decisions_and_not_the_examples(batch_size: int) -> None:
    split = Pixels()
    assert measure(ACCURACY, lambda x: x, split, batch_size) == pytest.approx(100 * 5 / 7)  # type: ignore[arg-type]
    answers_MK, targets_M = decided(split.examples(slice(None)), split.y_N)
    assert answers_MK.shape == (7, 2)
    assert len(targets_M) == 7
