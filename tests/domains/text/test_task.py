from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from archsearch.data.ragged import Ragged, joined, unpacked
from archsearch.data.task import Split
from archsearch.domains.text.task import TextSplit, TextTask, id_type, text_split

IDS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]]
SEGMENTS = [[0, 0, 1], [0], [0, 1], [0, 0, 1, 1]]


@pytest.fixture
def split() -> TextSplit:
    return text_split(IDS, np.array([0, 1, 1, 0]), pad_id=3, segments=SEGMENTS)


def test_examples_are_padded_to_the_longest_of_those_asked_for(split: TextSplit) -> None:
    x_N2T = split.examples(slice(0, 3))
    assert (x_N2T.dtype, x_N2T.shape) == (torch.int64, (3, 2, 3))
    assert x_N2T[:, 0].tolist() == [[5, 6, 7], [8, 3, 3], [9, 10, 3]]
    assert x_N2T[:, 1].tolist() == [[0, 0, 1], [0, -1, -1], [0, 1, -1]]
    assert split.examples(np.array([1])).tolist() == [[[8], [0]]]


def test_single_texts_have_one_segment() -> None:
    split = text_split(IDS, np.array([0, 1, 1, 0]))
    assert split.segment_F is None
    assert split.examples(slice(1, 3)).tolist() == [[[8, 0], [0, -1]], [[9, 10], [0, 0]]]


def test_rows_are_taken_in_any_order_and_copy_no_token(split: TextSplit) -> None:
    some: Split = split.take(np.array([3, 0, 3]))
    assert some.labels().tolist() == [0, 0, 0]
    assert some.examples(np.array([1, 2])).tolist() == split.examples(np.array([0, 3])).tolist()
    twice = split.take(np.array([3, 1])).take(slice(1, 2))
    assert twice.ids.flat_F is split.ids.flat_F
    assert (twice.lengths_N.tolist(), twice.examples(slice(None)).tolist()) == ([1], [[[8], [0]]])


def test_no_rows_are_no_examples(split: TextSplit) -> None:
    assert split.examples(slice(0, 0)).shape == (0, 2, 0)


def test_many_labels_become_floats() -> None:
    split = text_split(IDS, np.array([[0, 1], [1, 1], [0, 0], [1, 0]], dtype=np.uint8))
    assert split.labels().dtype == torch.float32
    assert split.take(slice(0, 2)).y_N.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(("vocabulary", "kind"), [(65_536, np.uint16), (65_537, np.int32)])
def test_ids_take_two_bytes_where_they_fit(vocabulary: int, kind: type[np.generic]) -> None:
    assert id_type(vocabulary) is kind
    assert np.iinfo(id_type(vocabulary)).max >= vocabulary - 1


def test_packing_and_unpacking_give_the_same_rows() -> None:
    rows = joined(IDS, np.int32)
    mixed = rows.take(np.array([2, 0, 3]))
    for given in (rows, mixed, rows.take(slice(0, 2)), rows.take(slice(0, 0))):
        back = unpacked(*given.packed())
        assert [back[i].tolist() for i in range(len(back))] == [given[i].tolist() for i in range(len(given))]
        assert back.flat_F.size == given.length_N.sum()
    assert isinstance(rows, Ragged)
    assert rows.packed()[0].base is rows.flat_F


def test_a_task_is_plain_json() -> None:
    task = TextTask(3, 64, 30_522, 0, False, ("a", "b", "c"), prevalence=(0.5, 0.25, 0.25))
    assert TypeAdapter(TextTask).validate_python(json.loads(json.dumps(asdict(task)))) == task
    assert (task.domain, task.uneven, task.chance) == ("text_classification", False, 50.0)
