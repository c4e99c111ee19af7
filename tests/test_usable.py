"""Who would have won and is no network, or a larger one than was counted, leaves the place to the next best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from archsearch import choice
from archsearch.data import Dataset
from archsearch.domains.images.task import ImageTask
from archsearch.errors import SearchError
from archsearch.hardware import Limits, Ruler, measure, measure_exactly, peak_activation_bytes
from archsearch.hardware.latency import Latency
from archsearch.ledger.folder import FolderLedger
from archsearch.request import JobRequest, parse_request
from archsearch.search import Trial
from archsearch.spaces import Recipe, Space, spaces
from archsearch.story import Opened, Story, find, verify
from archsearch.teachers import Teacher
from archsearch.usable import contenders, settle

RESNETS = spaces.get("resnet_cifar")
ODD = replace(RESNETS, name="odd", model=lambda a, task: Recipe("cifar_resnet", {"colour": "red"}))
REQUEST = JobRequest.model_validate(
    {"teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}, "budget": {"params": 10**6}}
)


@pytest.fixture
def ruler(gray_task: ImageTask) -> Ruler:
    return Ruler(gray_task, Limits(params=10**6))


def trial(number: int, space: Space, ruler: Ruler, score: float) -> Trial:
    architecture = RESNETS.smallest(ruler.task)
    cost = ruler.estimate(space, architecture)
    return Trial(number, space.name, architecture, cost, "scored", score, {}, {}, None, 0.1, (score,))


def settled(ruler: Ruler, *trials: tuple[Space, float], request: JobRequest = REQUEST, **kwargs: Any) -> Any:
    warned: list[tuple[str, str]] = []
    told = [trial(i, space, ruler, score) for i, (space, score) in enumerate(trials)]
    known = list({space.name: space for space, _ in trials}.values())
    given: dict[str, Any] = {"measurable": False, "report": lambda report: None, **kwargs}
    found = settle(request, ruler, known, told, warn=lambda *each: warned.append(each), **given)
    return found, warned


def test_a_winner_that_is_fine_wins_without_a_word_and_is_counted(ruler: Ruler) -> None:
    found, warned = settled(ruler, (RESNETS, 1.0), (RESNETS, 2.0))
    assert (found["winner"]["number"], warned, found["unusable"]) == (1, [], {})
    exact = measure(RESNETS, RESNETS.smallest(ruler.task), ruler.task)
    checked = found["budget_check"]
    assert (checked["winner"]["params"], checked["winner"]["macs"]) == (exact.params, exact.macs)
    assert checked["beyond"] == []
    assert checked["counted"] >= 1


def test_a_winner_that_cannot_be_built_leaves_the_place_to_the_next_best(ruler: Ruler) -> None:
    found, warned = settled(ruler, (ODD, 3.0), (RESNETS, 1.0), (RESNETS, 2.0))
    assert found["winner"]["number"] == 2
    ((code, detail),) = warned
    assert code == "winner_unusable"
    assert detail == (
        "candidate 0 (odd) would have won, but it cannot be built, saved and loaded: it fails with a TypeError; "
        "the next best takes its place"
    )
    assert list(found["unusable"]) == ["0"]


def test_a_winner_beyond_the_budget_as_torch_counts_it_does_not_win(ruler: Ruler, gray_task: ImageTask) -> None:
    """The closed form of this space says half of the truth."""

    def half(architecture: Any, task: ImageTask) -> Any:
        count = RESNETS.count(architecture, task)
        return replace(count, params=count.params // 2)

    liar = replace(RESNETS, name="liar", count=half)
    truth = RESNETS.cost(RESNETS.smallest(gray_task), gray_task).params
    tight = replace(ruler, limits=Limits(params=truth - 1))
    with pytest.raises(SearchError, match=rf"it has params {truth:,} of {truth - 1:,}, and there is no other one"):
        settled(tight, (liar, 3.0))
    found, warned = settled(replace(ruler, limits=Limits(params=truth)), (liar, 3.0))
    assert (found["budget_check"]["beyond"], warned) == ([], [])


@pytest.mark.parametrize("name", ["resnet_cifar", "vit", "mobilenet"])
def test_exact_costs_are_those_of_the_closed_form(name: str, gray_task: ImageTask) -> None:
    space = spaces.get(name)
    for precision in ("fp32", "fp16", "int8"):
        ruler = Ruler(gray_task, size_precision=precision, batch=2, trade="peak_activation_bytes")
        architecture = space.smallest(gray_task)
        assert measure_exactly(space, architecture, ruler) == ruler.measure(space, architecture)


def test_one_candidate_that_cannot_be_timed_does_not_end_the_search(
    ruler: Ruler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(model: nn.Module, *args: Any, **kwargs: Any) -> Latency:
        if getattr(model, "odd", False):
            raise RuntimeError("the exporter does not know this layer")
        return Latency(1.0, 0.9, 1.1, 20, "cpu-torch", 1, 1)

    def marked(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        def run(self: Space, architecture: Any, task: ImageTask) -> nn.Module:
            model = build(self, architecture, task)
            model.odd = self.name == "odd"  # type: ignore[assignment]
            return model

        return run

    monkeypatch.setattr(choice, "measure_latency", timed)
    monkeypatch.setattr(Space, "build", marked(Space.build))
    odd = replace(RESNETS, name="odd")
    request = REQUEST.model_copy(update={"search": REQUEST.search.model_copy(update={"trade": "latency_ms"})})
    predicted = replace(ruler, trade="latency_ms", predictors={"odd": Constant(0.5), "resnet_cifar": Constant(1.0)})
    found, _ = settled(predicted, (odd, 3.0), (RESNETS, 2.0), request=request, measurable=True)
    assert found["winner"]["number"] == 1
    with pytest.raises(SearchError, match="none of 1 candidates could be timed on cpu-torch: it fails with a Runtime"):
        settled(predicted, (odd, 3.0), request=request, measurable=True)


class Constant:
    """A device on which everything takes as long."""

    def __init__(self, ms: float) -> None:
        self.ms = ms

    def predict(self, count: Any) -> float:
        return self.ms


def chosen(ruler: Ruler, *trials: tuple[Space, float], unusable: Any = (), count: int = 2) -> Any:
    warned: list[str] = []
    told = [trial(i, space, ruler, score) for i, (space, score) in enumerate(trials)]
    known = {space.name: space for space, _ in trials}
    given: dict[str, Any] = {"report": lambda report: None, "warn": lambda code, detail: warned.append(detail)}
    found, why = contenders(told, count, known, ruler, dict(unusable), **given)
    return [one.number for one in found], why, warned


def test_who_is_of_no_use_is_no_contender_and_the_next_best_is(ruler: Ruler) -> None:
    other = replace(RESNETS, name="other")
    numbers, why, warned = chosen(ruler, (RESNETS, 1.0), (ODD, 3.0), (other, 2.0))
    assert (numbers, list(why)) == ([2, 0], ["1"])
    assert warned == [
        "candidate 1 (odd) would have been distilled briefly, but it cannot be built, saved and loaded: it fails with "
        "a TypeError; the next best takes its place"
    ]


def test_who_the_search_found_of_no_use_is_not_asked_again(ruler: Ruler) -> None:
    numbers, why, warned = chosen(ruler, (RESNETS, 1.0), (ODD, 3.0), unusable={"1": "told before"})
    assert (numbers, why, warned) == ([0], {"1": "told before"}, [])
    with pytest.raises(SearchError, match="no candidate can be the student: told before"):
        chosen(ruler, (ODD, 3.0), unusable={"0": "told before"})


def test_verification_keeps_away_from_what_the_search_found_unusable_and_counts_who_wins(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    """The best by score cannot be had: neither the search nor the brief trainings end with it."""
    body = {
        "teacher": {"kind": "timm", "name": "resnet18"},
        "data": {"kind": "digits"},
        "budget": {"params": 10**5},
        "search": {"space": "resnet_cifar", "candidates": 3, "batch_size": 16},
        "verify": {"candidates": 2, "epochs": 1},
        "distill": {"method": "kd", "epochs": 4, "batch_size": 64},
    }
    ledger = FolderLedger(tmp_path, parse_request(body), lambda report: None)
    told = Story(parse_request(body), ledger, lambda: Opened(teacher, few_digits))
    found = find(told)
    best = str(found["winner"]["number"])
    verified = verify(told, {**found, "unusable": {best: "it cannot be had"}})
    assert best not in {str(one["number"]) for one in verified["candidates"]}
    assert verified["unusable"] == {best: "it cannot be had"}
    won, counted = verified["winner"], dict(verified["budget_check"]["winner"])
    # Held against the teacher's, which costs no less.
    assert counted.pop("peak_activation_bytes") == peak_activation_bytes(
        RESNETS, won["architecture"], few_digits.task, 1
    )
    assert counted == {name: won[name] for name in ("params", "macs")} | {
        "size_bytes": measure_exactly(RESNETS, won["architecture"], Ruler(few_digits.task)).size_bytes
    }
