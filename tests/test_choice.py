"""The winner among candidates whose latency was predicted, once it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archsearch import choice
from archsearch.domains.images.task import ImageTask
from archsearch.errors import SearchError
from archsearch.hardware import Limits, Ruler
from archsearch.hardware.latency import Latency
from archsearch.request import JobRequest, parse_request
from archsearch.search import Trial
from archsearch.spaces import Cost, spaces

SPACE = spaces.get("resnet_cifar")


def request(**search: Any) -> JobRequest:
    return parse_request(
        {
            "kind": "search",
            "teacher": {"kind": "timm", "name": "resnet18"},
            "data": {"kind": "digits"},
            "budget": {"latency_ms": 1.0},
            "search": search,
        }
    )


def trial(number: int, score: float, predicted_ms: float) -> Trial:
    architecture = {p.name: p.low for p in SPACE.parameters(ImageTask(10, 1, 8, 8, (0.5,), (0.25,)))} | {
        "depth1": 1 + number
    }
    cost = Cost(100 + number, 1000, latency_ms=predicted_ms)
    return Trial(number, "resnet_cifar", architecture, cost, "scored", score, {}, {"hm": score}, None, 0.1, (score,))


@pytest.fixture
def settle(gray_task: ImageTask, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`choice.settle` on a device that takes so many times as long as predicted, for each depth."""

    def run(trials: list[Trial], slower: dict[int, float], measurable: bool = True, **search: Any) -> dict[str, Any]:
        def timed(model: Any, chw: Any, device: str, *, batch: int) -> Latency:
            number = len(model.layer1) - 1
            predicted = next(t.cost.latency_ms for t in trials if t.number == number)
            took = predicted * slower.get(number, 1.0)
            return Latency(took, took, took, 20, device, batch, 1)

        monkeypatch.setattr(choice, "measure_latency", timed)
        ruler = Ruler(gray_task, Limits(latency_ms=1.0))
        reports: list[Any] = []
        return choice.settle(request(**search), ruler, [SPACE], trials, measurable=measurable, report=reports.append)

    return run


TRIALS = [trial(0, 1.0, 0.2), trial(1, 2.0, 0.5), trial(2, 3.0, 0.99), trial(3, 1.9, 0.6), trial(4, 0.5, 0.1)]


def test_the_best_score_that_holds_the_limit_as_measured_wins(settle: Any) -> None:
    found = settle(TRIALS, {2: 1.1})
    assert found["winner"]["number"] == 1, "the best was slower than predicted"
    assert [member["number"] for member in found["front"]] == [4, 0, 1]
    assert [member["number"] for member in found["beyond"]] == [2]
    assert found["beyond"][0]["latency_ms"] == 0.99
    assert found["beyond"][0]["measured"]["latency_ms"] == pytest.approx(1.089)
    assert settle(TRIALS, {})["winner"]["number"] == 2


def test_when_the_whole_front_is_too_slow_the_best_of_the_others_is_looked_for(settle: Any) -> None:
    found = settle(TRIALS, {0: 6.0, 1: 2.1, 2: 1.1, 4: 11.0, 3: 1.0})
    assert found["winner"]["number"] == 3
    assert [member["number"] for member in found["front"]] == [3]
    assert {member["number"] for member in found["beyond"]} == {0, 1, 2, 4}


def test_where_nothing_holds_the_limit_the_fastest_is_named(settle: Any) -> None:
    with pytest.raises(SearchError, match=r"the fastest took 2 ms: raise budget\.latency_ms"):
        settle(TRIALS, dict.fromkeys(range(5), 20.0))


def test_on_a_device_that_is_not_here_predictions_decide(settle: Any) -> None:
    found = settle(TRIALS, {2: 50.0}, measurable=False)
    assert found["winner"]["number"] == 2
    assert all("measured" not in member for member in [found["winner"], *found["front"]])


def test_the_knee_is_chosen_among_what_holds_the_limit(settle: Any) -> None:
    assert settle(TRIALS, {2: 1.1}, choose="knee", trade="latency_ms")["winner"]["number"] in (0, 1)


@pytest.mark.slow
def test_a_job_that_goes_on_measures_by_the_predictors_it_began_with(gray_task: ImageTask, tmp_path: Path) -> None:
    said: list[Any] = []

    def ruler() -> Any:
        return choice.measured_by(
            request(), [SPACE], gray_task, Limits(latency_ms=50.0), profile=None, folder=tmp_path, cache=None,
            report=said.append,
        )  # fmt: skip

    first, searched = ruler()
    timed = len(said)
    again, searched_again = ruler()
    assert timed == 20
    assert len(said) == timed, "nothing is timed twice"
    assert searched == searched_again == (SPACE,)
    for architecture in (SPACE.smallest(gray_task), SPACE.largest(gray_task)):
        assert first.estimate(SPACE, architecture) == again.estimate(SPACE, architecture)
