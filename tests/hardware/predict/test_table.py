from __future__ import annotations

import math

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware.predict import Predictor, Table, fit, read_predictor, time_all
from archsearch.spaces import spaces


def test_a_table_says_what_was_timed_and_travels_as_json(gray_task: ImageTask) -> None:
    space = spaces.get("resnet_cifar")
    small, large = space.smallest(gray_task), {**space.smallest(gray_task), "width3": 128, "depth3": 4}
    table = time_all(space, gray_task, [small, large], "cpu-torch", 1)
    fast, slow = (table.predict(space.count(member, gray_task)) for member in (small, large))
    assert 0 < fast < slow
    assert table.predict(space.count(space.largest(gray_task), gray_task)) == math.inf, "which nobody timed"
    again = read_predictor(table.to_json())
    assert isinstance(again, Table)
    assert again == table


def test_predictors_are_read_beside_tables(gray_task: ImageTask) -> None:
    space = spaces.get("resnet_cifar")
    members = [{**space.smallest(gray_task), "width3": 8 * (i + 1)} for i in range(10)]
    fitted = fit([space.count(member, gray_task) for member in members], [1.0 + i for i in range(10)])
    assert isinstance(read_predictor(fitted.to_json()), Predictor)
    for text in ("[]", "nothing", '{"version": 0, "latencies_ms": {}}', '{"latencies_ms": {}}'):
        with pytest.raises(InvalidRequest, match="again"):
            read_predictor(text)
