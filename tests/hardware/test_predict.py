from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from archsearch.data import Task
from archsearch.errors import ImpossibleBudget, InvalidRequest
from archsearch.hardware import predict
from archsearch.hardware.latency import Latency
from archsearch.hardware.predict import Predictor, calibrate, fit, pick_members
from archsearch.request import Architecture
from archsearch.spaces import Count, Space, spaces


def device_ms(count: Count) -> float:
    """A device that is a sum: 10 µs a layer, 1 ms for 30M multiply-accumulates and for 5M activations, 0.2 ms more."""
    return 0.2 + 0.01 * sum(count.layers) + sum(count.work) / 30e6 + count.moved / 5e6


def counts(space: Space, task: Task, seed: int, n: int = 20) -> list[Count]:
    return [space.count(member, task) for member in pick_members(space, task, None, n, seed)]


@pytest.mark.parametrize("name", ["resnet_cifar", "vit", "nasbench201"])
def test_a_device_that_is_a_sum_is_recovered(name: str, task: Task) -> None:
    space = spaces.get(name)
    known, others = counts(space, task, 0), counts(space, task, 1, 60)
    found = fit(known, [device_ms(count) for count in known])
    errors = [found.predict(count) / device_ms(count) - 1 for count in others]
    assert np.abs(errors).mean() < 0.02
    assert found.error < 0.03


def test_noise_is_not_learned(space: Space, task: Task) -> None:
    known, others = counts(space, task, 0), counts(space, task, 1, 60)
    noise = np.random.default_rng(0).normal(0, 0.05, len(known))
    found = fit(known, [device_ms(count) * float(np.exp(e)) for count, e in zip(known, noise, strict=True)])
    errors = [found.predict(count) / device_ms(count) - 1 for count in others]
    assert np.abs(errors).mean() < 0.05
    assert 0.02 < found.error < 0.15


def test_prices_that_fit_are_not_negative(space: Space, task: Task) -> None:
    known = counts(space, task, 0)
    found = fit(known, [device_ms(count) for count in known])
    assert found.reading == "prices"
    assert found.constant >= 0
    assert min(found.prices) >= 0


def test_what_no_price_above_zero_fits_is_fitted_all_the_same(task: Task) -> None:
    # A pooling that costs what a convolution writing as much does not.
    space = spaces.get("nasbench201")

    def pooled_ms(count: Count) -> float:
        return 1.0 + count.moved / 1e5 - 0.05 * sum(count.layers)

    known, others = counts(space, task, 0), counts(space, task, 1, 60)
    found = fit(known, [pooled_ms(count) for count in known])
    assert found.reading.startswith("signed")
    assert np.abs([found.predict(count) / pooled_ms(count) - 1 for count in others]).mean() < 0.03


def test_nine_in_ten_lie_in_the_interval(space: Space, task: Task) -> None:
    known, others = counts(space, task, 0), counts(space, task, 1, 200)
    rng = np.random.default_rng(1)
    found = fit(known, [device_ms(c) * float(np.exp(rng.normal(0, 0.1))) for c in known])
    inside = 0
    for count in others:
        low_ms, high_ms = found.predict_interval(count)
        assert low_ms < found.predict(count) < high_ms
        inside += low_ms <= device_ms(count) * float(np.exp(rng.normal(0, 0.1))) <= high_ms
    assert inside > 0.8 * len(others)


def test_predictions_stay_above_zero(space: Space, task: Task) -> None:
    known = counts(space, task, 0)
    found = fit(known, np.random.default_rng(0).uniform(0.1, 10, len(known)).tolist())
    assert all(found.predict(count) > 0 for count in [Count(), *counts(space, task, 1, 60)])


def test_non_negative_least_squares_by_hand() -> None:
    # ½‖w − (2, −1)‖² has its least at (2, −1), and at (2, 0) where weights may not be negative.
    assert predict._non_negative(np.eye(2), np.array([2.0, -1.0])).tolist() == [2.0, 0.0]


def test_non_negative_least_squares_agrees_with_scipy() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    for _ in range(50):
        a_NM, b_N = rng.normal(size=(20, 8)), rng.normal(size=20)
        found_M = predict._non_negative(a_NM.T @ a_NM, a_NM.T @ b_N)
        assert np.allclose(found_M, nnls(a_NM, b_N)[0], atol=1e-8)


def test_a_predictor_survives_json(space: Space, task: Task) -> None:
    known = counts(space, task, 0)
    for signed, corrected in predict._READINGS.values():
        latencies = np.array([device_ms(count) * (1 + 0.3 * (count.params % 7)) for count in known])
        found = predict._fit(predict.featurise(known), latencies, signed, corrected)
        back = Predictor.from_json(found.to_json())
        assert back == found
        assert back.predict(known[3]) == found.predict(known[3])
        assert json.loads(found.to_json())["members"] == len(known)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 99}', "null"])
def test_what_is_no_predictor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="calibrate again"):
        Predictor.from_json(text)


def test_a_predictor_with_features_nobody_knows_is_refused(space: Space, task: Task) -> None:
    known = counts(space, task, 0)
    body = json.loads(fit(known, [device_ms(count) for count in known]).to_json())
    body["features"][0] = "colour"
    with pytest.raises(InvalidRequest, match="colour"):
        Predictor.from_json(json.dumps(body))


@pytest.mark.parametrize("latencies", [[1.0] * 19, [1.0] * 19 + [0.0], [1.0] * 19 + [float("nan")]])
def test_latencies_that_are_none_are_refused(latencies: list[float], space: Space, task: Task) -> None:
    with pytest.raises(InvalidRequest):
        fit(counts(space, task, 0), latencies)


def test_too_few_members_are_refused(space: Space, task: Task) -> None:
    with pytest.raises(InvalidRequest, match="at least 5"):
        fit(counts(space, task, 0)[:4], [1.0, 2.0, 3.0, 4.0])


def test_members_that_do_not_differ_have_their_mean() -> None:
    found = fit([Count(params=5, macs=7)] * 8, [1.0] * 4 + [1.1] * 4)
    assert found.features == ()
    assert 1.0 < found.predict(Count(params=9)) < 1.1


def test_predicting_is_quick(space: Space, task: Task) -> None:
    known = counts(space, task, 0)
    latencies = np.array([device_ms(count) * (1 + 0.3 * (count.params % 7)) for count in known])
    found = predict._fit(predict.featurise(known), latencies, True, True)
    started = time.thread_time()
    for _ in range(1000):
        found.predict(known[0])
    # Some 25 µs; the bound is for the slowest of machines.
    assert time.thread_time() - started < 1.0


def test_members_are_the_same_for_the_same_seed(space: Space, task: Task) -> None:
    first, again, other = (pick_members(space, task, None, 20, seed) for seed in (3, 3, 4))
    assert first == again != other
    assert len({tuple(member.values()) for member in first}) == 20
    for member in first:
        space.check(member, task)


def test_the_extremes_are_among_the_members(space: Space, task: Task) -> None:
    members = pick_members(space, task, None, 20, 0)
    assert space.smallest(task) in members
    assert space.largest(task) in members


def test_members_are_feasible_even_where_few_are(space: Space, task: Task) -> None:
    def feasible(architecture: Architecture) -> bool:
        return space.count(architecture, task).params <= 20_000

    share = sum(feasible(member) for member in pick_members(space, task, None, 20, 0)) / 20
    members = pick_members(space, task, feasible, 20, 0)
    assert share < 0.2
    assert len(members) == 20
    assert all(feasible(member) for member in members)


def test_members_spread_over_the_sizes(space: Space, task: Task) -> None:
    macs = sorted(space.count(member, task).macs for member in pick_members(space, task, None, 20, 0))
    assert macs[-1] / macs[0] > 100
    assert macs[10] < macs[-1] / 2


def test_a_budget_nothing_fits_is_refused(space: Space, task: Task) -> None:
    with pytest.raises(ImpossibleBudget, match="resnet_cifar"):
        pick_members(space, task, lambda architecture: False, 20, 0)


def test_a_small_space_gives_all_it_has(space: Space, task: Task) -> None:
    only = dataclasses.replace(space, parameters=lambda task: space.parameters(task)[:1], count=_depth_count(space))
    assert len(pick_members(only, task, None, 20, 0)) == 9


def _depth_count(space: Space):
    def count(architecture: Architecture, task: Task) -> Count:
        return space.count({**space.smallest(task), **architecture}, task)

    return count


def test_calibrating_times_fits_and_reports(space: Space, task: Task, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    found = calibrate(
        space, task, "cpu-torch", 1, n=6, cache=tmp_path, report=lambda done, total: seen.append((done, total)),
        feasible=lambda member: space.count(member, task).params < 60_000,
    )  # fmt: skip
    assert seen == [(done, 6) for done in range(1, 7)]
    assert torch.get_rng_state().equal(state)
    assert (found.space, found.device, found.batch, found.threads) == ("resnet_cifar", "cpu-torch", 1, 1)
    assert len(found.members) == len(found.latencies) == found.predictor.members == 6
    assert all(found.predictor.predict(space.count(member, task)) > 0 for member in found.members)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What is timed, on a device of arithmetic."""
    calls: list[tuple[object, ...]] = []

    def instead(space: Space, task: Task, member: Architecture, device: str, batch: int, threads: int) -> Latency:
        calls.append((space.name, device, batch, threads))
        milliseconds = batch * device_ms(space.count(member, task))
        return Latency(milliseconds, milliseconds, milliseconds, 1, device, batch, threads)

    monkeypatch.setattr(predict, "_time", instead)
    return calls


def test_a_calibration_is_made_once(space: Space, task: Task, tmp_path: Path, timed: list[object]) -> None:
    first = calibrate(space, task, "cpu-torch", 1, cache=tmp_path)
    assert len(timed) == 20
    assert calibrate(space, task, "cpu-torch", 1, cache=tmp_path) == first
    assert len(timed) == 20


def test_another_question_is_another_calibration(
    space: Space, task: Task, tmp_path: Path, timed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**other: object) -> None:
        asked = {"space": space, "task": task, "device": "cpu-torch", "batch": 1, "threads": 1, **other}
        calibrate(
            asked["space"], asked["task"], asked["device"], asked["batch"], threads=asked["threads"], cache=tmp_path
        )  # type: ignore[arg-type]

    others: list[dict[str, object]] = [
        {}, {"space": spaces.get("vit")}, {"task": dataclasses.replace(task, classes=11)}, {"batch": 2},
        {"task": dataclasses.replace(task, height=32, width=32)}, {"threads": 2},
    ]  # fmt: skip
    for asked, other in enumerate(others, 1):
        ask(**other)
        assert len(timed) == 20 * asked
    monkeypatch.setattr(predict, "describe_machine", lambda: {"processor": "another"})
    ask()
    assert len(timed) == 20 * (len(others) + 1)
    # Statistics of the pixels change no latency.
    ask(task=dataclasses.replace(task, mean=(0.1,) * 3))
    assert len(timed) == 20 * (len(others) + 1)


@pytest.mark.parametrize("content", ["", "[]", '[{"median_ms": 1}]', "{"])
def test_a_broken_file_is_measured_again(
    content: str, space: Space, task: Task, tmp_path: Path, timed: list[object]
) -> None:
    first = calibrate(space, task, "cpu-torch", 1, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert calibrate(space, task, "cpu-torch", 1, cache=tmp_path) == first
    assert len(timed) == 40


def test_a_cache_that_cannot_be_written_stops_nothing(
    space: Space, task: Task, tmp_path: Path, timed: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    calibrate(space, task, "cpu-torch", 1, cache=tmp_path / "file")
    assert "cannot be" in caplog.text
