from __future__ import annotations

import json
import time

import numpy as np
import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware.predict import Predictor, fit
from archsearch.hardware.predict.features import featurise
from archsearch.hardware.predict.fitting import _READINGS, _fit
from archsearch.spaces import Count, Space
from tests.hardware.predict.arithmetic import counts, device_ms


def test_nine_in_ten_lie_in_the_interval(space: Space, task: ImageTask) -> None:
    known, others = counts(space, task, 0), counts(space, task, 1, 200)
    rng = np.random.default_rng(1)
    found = fit(known, [device_ms(c) * float(np.exp(rng.normal(0, 0.1))) for c in known])
    inside = 0
    for count in others:
        low_ms, high_ms = found.predict_interval(count)
        assert low_ms < found.predict(count) < high_ms
        inside += low_ms <= device_ms(count) * float(np.exp(rng.normal(0, 0.1))) <= high_ms
    assert inside > 0.8 * len(others)


def test_predictions_stay_above_zero(space: Space, task: ImageTask) -> None:
    known = counts(space, task, 0)
    found = fit(known, np.random.default_rng(0).uniform(0.1, 10, len(known)).tolist())
    assert all(found.predict(count) > 0 for count in [Count(), *counts(space, task, 1, 60)])


def test_a_predictor_survives_json(space: Space, task: ImageTask) -> None:
    known = counts(space, task, 0)
    for signed, corrected in _READINGS.values():
        latencies = np.array([device_ms(count) * (1 + 0.3 * (count.params % 7)) for count in known])
        found = _fit(featurise(known), latencies, signed, corrected)
        back = Predictor.from_json(found.to_json())
        assert back == found
        assert back.predict(known[3]) == found.predict(known[3])
        assert json.loads(found.to_json())["members"] == len(known)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 99}', "null"])
def test_what_is_no_predictor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="calibrate again"):
        Predictor.from_json(text)


def test_a_predictor_with_features_nobody_knows_is_refused(space: Space, task: ImageTask) -> None:
    known = counts(space, task, 0)
    body = json.loads(fit(known, [device_ms(count) for count in known]).to_json())
    body["features"][0] = "colour"
    with pytest.raises(InvalidRequest, match="colour"):
        Predictor.from_json(json.dumps(body))


def test_predicting_is_quick(space: Space, task: ImageTask) -> None:
    known = counts(space, task, 0)
    latencies = np.array([device_ms(count) * (1 + 0.3 * (count.params % 7)) for count in known])
    found = _fit(featurise(known), latencies, True, True)
    started = time.thread_time()
    for _ in range(1000):
        found.predict(known[0])
    # Some 25 µs; the bound is for the slowest of machines.
    assert time.thread_time() - started < 1.0
