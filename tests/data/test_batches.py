"""How many images are asked about at once, and that nothing but time and memory depends on it."""

from __future__ import annotations

import weakref
from functools import partial

import pytest
import torch

from archsearch.data import Dataset
from archsearch.data.answers import answers
from archsearch.data.batches import Effort, asked, effort, fitting, free_bytes, require_room
from archsearch.data.metrics import accuracy
from archsearch.errors import Cancelled, TooMuchMemory
from archsearch.teachers import Teacher

# B batch, C channels, H W space


def images(rows: slice) -> torch.Tensor:
    """Ten of one value each, 0 to 9."""
    return torch.arange(10.0)[rows, None, None, None]


def test_effort_counts_what_is_alive_at_one_time_and_the_products_by_hand() -> None:
    weight, x = torch.ones(8, 4), torch.ones(1, 4)
    # While the second product is made: the first one and the second, eight floats each; the weights were there.
    assert effort(lambda: (x @ weight.T) * 2.0) == Effort(2 * 8 * 4, 4 * 8)
    assert effort(lambda: weight.T.view(4, 8).mul_(1.0)) == Effort(0, 0)


def test_effort_is_the_same_without_gradients_and_grows_with_what_a_graph_keeps(teacher: Teacher) -> None:
    x_1CHW = torch.zeros(1, 1, 8, 8)
    with torch.no_grad():
        plain = effort(lambda: teacher.logits(x_1CHW))
    with torch.inference_mode():
        assert effort(lambda: teacher.logits(x_1CHW)) == plain
    kept = effort(lambda: teacher.logits(x_1CHW.requires_grad_()))
    assert (kept.macs, kept.bytes > 2 * plain.bytes) == (plain.macs, True)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Effort(1000, 1000), 256),
        (Effort(2**20 * 3, 1000), 128),  # twice as much with what kernels hold: 768 MiB of one GiB
        (Effort(1000, 2**30), 16),
        (Effort(2**60, 1), 1),
        (Effort(1, 2**60), 1),
    ],
)
def test_the_batch_is_halved_until_it_fits(one: Effort, expected: int) -> None:
    assert fitting(one) == expected


def test_answers_are_in_order_and_reported_whatever_the_batch() -> None:
    for most in (1, 3, 10, 256):
        told: list[tuple[int, int]] = []
        listen = partial(lambda told, *at: told.append(at), told)
        found = list(asked(lambda x: 2 * x.flatten(), images, 10, most=most, report=listen))
        assert torch.cat([answer for _, answer in found]).tolist() == [2.0 * i for i in range(10)]
        assert [rows.start for rows, _ in found] == list(range(0, 10, min(most, 10)))
        assert told == [(rows.stop, 10) for rows, _ in found]
    assert list(asked(lambda x: x, images, 0)) == []


def test_no_image_is_answered_otherwise_for_the_batch_it_is_in(teacher: Teacher, digits: Dataset) -> None:
    few, many = (answers({"it": teacher.logits}, digits.test, most)["it"] for most in (7, 256))
    torch.testing.assert_close(torch.from_numpy(few), torch.from_numpy(many))
    assert accuracy(teacher.logits, digits.test, 7) == accuracy(teacher.logits, digits.test)


def test_where_memory_runs_out_it_is_half_as_many_and_what_filled_it_is_let_go() -> None:
    class Graph:
        """What a call holds."""

    alive: weakref.WeakSet[Graph] = weakref.WeakSet()
    seen: list[tuple[int, int]] = []

    def run(x_BCHW: torch.Tensor) -> torch.Tensor:
        seen.append((len(x_BCHW), len(alive)))
        held = Graph()
        alive.add(held)
        if len(x_BCHW) > 3:
            raise torch.OutOfMemoryError
        return x_BCHW.flatten()

    found = list(asked(run, images, 10))
    assert torch.cat([answer for _, answer in found]).tolist() == list(range(10))
    assert seen == [(size, 0) for size in (1, 10, 5, 3, 3, 3, 1)]


def test_a_single_image_too_many_is_said_so() -> None:
    def run(x_BCHW: torch.Tensor) -> torch.Tensor:
        if len(seen) > 1:
            raise torch.OutOfMemoryError
        seen.append(len(x_BCHW))
        return x_BCHW.flatten()

    seen = [0]
    with pytest.raises(TooMuchMemory, match="a single image takes more memory than there is"):
        list(asked(run, images, 10))


def test_a_first_image_that_is_too_large_is_said_so() -> None:
    """It is no mistake of the network's, which is what an error of torch's would be taken for."""

    def run(x_BCHW: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(TooMuchMemory, match="a single image takes more memory than there is"):
        list(asked(run, images, 10))


def test_whoever_is_told_may_stop_it(teacher: Teacher, digits: Dataset) -> None:
    told: list[int] = []

    def stop(done: int, of: int) -> None:
        told.append(done)
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        accuracy(teacher.logits, digits.test, 8, report=stop)
    assert told == [8]


def test_what_is_estimated_to_be_too_much_is_refused_with_both_figures() -> None:
    require_room(1000, "it", field="a.b", fix="take less")
    with pytest.raises(
        TooMuchMemory, match=r"a\.b: it would take about [\d,]+ GB of memory, and .* are free; take less"
    ):
        require_room(100 * free_bytes(), "it", field="a.b", fix="take less")
