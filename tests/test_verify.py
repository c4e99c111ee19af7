from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.data import Dataset
from archsearch.distill.train import train
from archsearch.errors import SearchError
from archsearch.request import Architecture, DistillSpec, VerifySpec
from archsearch.search import Trial
from archsearch.spaces import Cost, spaces
from archsearch.teachers import Teacher
from archsearch.verify import affordable, contenders, rounds, verify

pytestmark = pytest.mark.smoke

DISTILL = DistillSpec(method="kd", epochs=40, batch_size=64, lr=0.2, seeds=3, ema=0.99)


def trial(number: int, score: float | None, space: str = "resnet_cifar", depth: int = 1, width: int = 8) -> Trial:
    widths = {"width1": width, "width2": width, "width3": 2 * width}
    architecture = {f"depth{i}": depth for i in (1, 2, 3)} | widths
    state: Any = "failed" if score is None else "scored"
    cost = Cost(1000 * width, 1000, 4000, None, None)
    return Trial(number, space, architecture, cost, state, score, {}, {}, None, 0.1, () if score is None else (score,))


def test_contenders_are_the_best_of_every_space_and_then_the_best_by_score() -> None:
    trials = [
        trial(0, 5.0, "a"),
        trial(1, 9.0, "a", width=16),
        trial(2, 8.0, "a", width=24),
        trial(3, 1.0, "b"),
        trial(4, 9.0, "a", width=16),  # the same network again
        trial(5, None, "c"),
        trial(6, 7.0, "a", width=32),
    ]
    assert [t.number for t in contenders(trials, 3)] == [1, 2, 3]
    assert [t.number for t in contenders(trials, 2)] == [1, 3]
    assert [t.number for t in contenders(trials, 99)] == [1, 2, 6, 0, 3]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(8, [(8, 4), (4, 8), (2, 16)]), (5, [(5, 4), (3, 8), (2, 16)]), (2, [(2, 4)]), (1, [])],
)
def test_each_round_keeps_half_and_trains_them_twice_as_long(count: int, expected: list[tuple[int, int]]) -> None:
    assert rounds(VerifySpec(epochs=4), count) == expected
    assert rounds(VerifySpec(epochs=4, rounds=1), count) == expected[:1]


def test_contenders_that_would_cost_more_than_their_share_are_left_out_the_last_by_score_first() -> None:
    spec = VerifySpec(candidates=4, epochs=1, rounds=1, share=0.1)
    whole = DistillSpec(epochs=60, batch_size=64)

    def of(*macs: int) -> list[Trial]:
        return [replace(trial(i, 9.0 - i), cost=Cost(1000, each)) for i, each in enumerate(macs)]

    def numbers(*macs: int) -> list[int]:
        return [one.number for one in affordable(spec, whole, of(*macs))]

    # A tenth is six passes of the best by score, of 1,000 multiply-accumulates each.
    assert numbers(1000, 1000, 1000, 1000) == [0, 1, 2, 3]
    assert numbers(1000, 2000, 3000, 1000) == [0, 1, 2]
    assert numbers(1000, 9000, 1000, 1000) == [0, 1], "two at least: there has to be something to choose between"
    assert len(affordable(VerifySpec(candidates=4), whole, of(1000, 9000, 1000, 1000))) == 4


def run(teacher: Teacher, dataset: Dataset, trials: list[Trial], folder: Path, reports: list[Any]) -> dict[str, Any]:
    return verify(
        VerifySpec(candidates=3, epochs=2),
        DISTILL,
        trials,
        {space.name: space for space in spaces},
        teacher,
        dataset,
        folder=folder / "verify",
        cache=folder / "cache",
        report=reports.append,
    )


def test_the_network_that_really_learns_wins_whatever_the_scores_said(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    """The score prefers eight channels to sixteen and forty; a few epochs of training know better."""
    trials = [trial(0, 9.0), trial(1, 8.0, width=16), trial(2, 7.0, width=40)]
    reports: list[Any] = []
    found = run(teacher, few_digits, trials, tmp_path, reports)
    assert found["winner"]["number"] != 0
    assert found["changed"]
    assert found["rank_correlation"] < 0
    assert found["rounds"] == [{"contenders": 3, "epochs": 2}, {"contenders": 2, "epochs": 4}]
    assert found["epochs_trained"] == 3 * 2 + 2 * 4
    ranked = found["candidates"]
    assert [candidate["rank"] for candidate in ranked] == [1, 2, 3]
    assert [len(candidate["selection_acc"]) for candidate in ranked] == [2, 2, 1]
    assert ranked[0]["selection_acc"][1] >= ranked[1]["selection_acc"][1]
    assert {candidate["number"]: candidate["rank_by_score"] for candidate in ranked} == {0: 1, 1: 2, 2: 3}
    assert [report["progress"] for report in reports] == sorted(report["progress"] for report in reports)
    assert reports[-1]["progress"] == pytest.approx(1)
    assert {report["phase"] for report in reports} == {"verifying"}


def test_who_is_alone_wins_untrained(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    found = run(teacher, few_digits, [trial(7, 9.0)], tmp_path, [])
    assert (found["winner"]["number"], found["epochs_trained"], found["changed"]) == (7, 0, False)


def test_what_was_trained_is_not_trained_again(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    trials = [trial(0, 9.0), trial(1, 8.0, width=16)]
    first = run(teacher, few_digits, trials, tmp_path, [])
    reports: list[Any] = []
    second = run(teacher, few_digits, trials, tmp_path, reports)
    assert reports == []
    assert second["candidates"] == first["candidates"]
    assert second["training_s"] == first["training_s"]
    assert second["elapsed_s"] < first["elapsed_s"]
    left = {path.name.partition("-")[0] for path in (tmp_path / "verify").iterdir()}
    assert left == {"verify.json", "precision"}, "what its kinds of network compute in stays with it"


def test_a_crash_between_the_last_step_and_the_result_costs_nothing(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    trials = [trial(0, 9.0), trial(1, 8.0, width=16)]
    first = run(teacher, few_digits, trials, tmp_path, [])
    # The first contender's checkpoint is there and its result is not.
    kept = json.loads((tmp_path / "verify" / "verify.json").read_text())
    space = spaces.get("resnet_cifar")
    torch.manual_seed(DISTILL.seed)
    model = space.build(trials[0].architecture, few_digits.task)
    brief = DISTILL.model_copy(update={"epochs": 2, "seeds": 1, "ema": None})
    path = tmp_path / "verify" / "0-2.safetensors"
    list(train(model, few_digits, brief, teacher=teacher, checkpoint_path=path, cache=tmp_path / "cache"))
    (tmp_path / "verify" / "verify.json").write_text(json.dumps({"1-2": kept["1-2"]}))
    second = run(teacher, few_digits, trials, tmp_path, [])
    assert second["candidates"] == first["candidates"]
    assert not list((tmp_path / "verify").glob("*.safetensors"))


def test_weights_that_were_fitted_are_those_of_before_wherever_it_goes_on(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    """Another machine fits them a little otherwise; here it fits others altogether."""
    fitted = 1.0

    def fit(model: torch.nn.Module, _: Architecture) -> None:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(fitted if weight.ndim > 1 else 1)

    cut = replace(spaces.get("resnet_cifar"), name="teacher", start="teacher", weights=fit)
    trials = [replace(trial(k, 9.0 - k, "teacher", width=8 * (1 + k)), start="teacher") for k in (0, 1)]

    def verified(folder: Path, report: Callable[[Any], None]) -> list[Any]:
        spec = VerifySpec(candidates=2, epochs=2)
        places: dict[str, Any] = {"folder": folder, "cache": tmp_path / "cache", "report": report}
        found = verify(spec, DISTILL, trials, {"teacher": cut}, teacher, few_digits, **places)
        return sorted((one["number"], one["selection_acc"]) for one in found["candidates"])

    def crash(report: Any) -> None:
        raise KeyboardInterrupt

    whole = verified(tmp_path / "whole", lambda report: None)
    with pytest.raises(KeyboardInterrupt):
        verified(tmp_path / "crashed", crash)
    assert [path.name for path in (tmp_path / "crashed").glob("*.start.*")] == ["0-2.start.safetensors"]
    fitted = 3.0
    again = verified(tmp_path / "crashed", lambda report: None)
    assert again[0] == whole[0]
    assert again[1] != whole[1], "nobody had begun with it"
    assert not list((tmp_path / "crashed").glob("*.safetensors"))


def test_a_method_that_does_not_fit_one_kind_of_network_costs_that_contender_alone(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    """Class attention needs a classifier right behind the last stage, and this family has a wider head between."""
    mobile = spaces.get("mobilenet")
    other = replace(trial(1, 9.5), space="mobilenet", architecture=mobile.smallest(few_digits.task))
    found = verify(
        VerifySpec(candidates=2, epochs=2),
        DISTILL.model_copy(update={"method": "catkd"}),
        [other, trial(0, 9.0)],
        {space.name: space for space in spaces},
        teacher,
        few_digits,
        folder=tmp_path,
        cache=None,
        report=lambda report: None,
    )
    assert found["winner"]["number"] == 0
    assert found["candidates"][1]["selection_acc"] == [None]


def test_a_network_that_cannot_be_built_costs_itself_alone(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    broken = trial(1, 9.5)
    broken = replace(broken, architecture={**broken.architecture, "width1": 0})
    found = run(teacher, few_digits, [broken, trial(0, 9.0)], tmp_path, [])
    assert found["winner"]["number"] == 0
    assert found["candidates"][1]["selection_acc"] == [None]


@pytest.mark.slow
def test_contenders_of_the_same_round_share_the_teachers_answers(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    asked = 0

    def count(_module: Any, inputs: Any) -> None:
        nonlocal asked
        asked += len(inputs[0])

    hook = teacher.model.register_forward_pre_hook(count)
    run(teacher, few_digits, [trial(0, 9.0), trial(1, 8.0, width=16), trial(2, 7.0, width=24)], tmp_path, [])
    hook.remove()
    assert asked < 4 * 256, "five trainings of two and four epochs, whose first two see the same views"


def test_contenders_that_cannot_be_trained_are_told_why(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    ruinous = DISTILL.model_copy(update={"lr": 1e30, "optimizer": "sgd"})
    with pytest.raises(SearchError, match=r"none of 2 contenders could be trained: .*lower distill.lr"):
        verify(
            VerifySpec(candidates=2, epochs=2),
            ruinous,
            [trial(0, 9.0), trial(1, 8.0, width=16)],
            {space.name: space for space in spaces},
            teacher,
            few_digits,
            folder=tmp_path,
            cache=None,
            report=lambda report: None,
        )
