from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from archsearch.distill.loss import losses
from archsearch.errors import InvalidRequest
from archsearch.plain import read_yaml
from archsearch.request import parse_request, read_request


def request(**changes: Any) -> dict[str, Any]:
    named = {"teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}}
    return {**named, "budget": {"params": 50_000}, **changes}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"budget": {"params": "50000"}}, "budget.params"),
        ({"budget": {"params": True}}, "budget.params"),
        ({"budget": {"params_ratio": "0.5"}}, "budget.params_ratio"),
        ({"search": {"candidates": "3"}}, "search.candidates"),
        ({"search": {"score": {"hm": "1"}}}, "search.score.hm"),
        ({"search": {"seed": False}}, "search.seed"),
        ({"distill": {"lr": "0.1"}}, "distill.lr"),
        ({"distill": {"losses": {"kd": {"weight": "2"}}}}, "distill.losses.kd.weight"),
        ({"distill": {"baseline": "yes"}}, "distill.baseline"),
        ({"distill": {"baseline": 1}}, "distill.baseline"),
        (
            {"kind": "distill", "student": {"space": "vit", "architecture": {"depth": "3"}}},
            "student.architecture.depth",
        ),
    ],
)
def test_text_and_truth_values_are_no_numbers(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(request(**changes))
    assert caught.value.field == field, caught.value


def test_a_whole_number_is_one_however_it_is_written() -> None:
    found = parse_request(request(budget={"params": 50_000.0, "latency_ms": 3}, search={"candidates": 1e2}))
    assert (found.budget.params, found.budget.latency_ms, found.search.candidates) == (50_000, 3.0, 100)
    assert isinstance(found.budget.params, int)
    with pytest.raises(InvalidRequest, match="integer"):
        parse_request(request(budget={"params": 1.5}))


def test_every_settings_of_every_loss_wants_numbers() -> None:
    for loss in losses:
        for name, value in loss.settings().model_dump().items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                with pytest.raises(ValidationError):
                    loss.settings(**{name: str(value)})


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("5E+2", 500.0), ("1.e3", 1000.0), ("-2e0", -2.0)])
def test_yaml_reads_the_numbers_json_does(text: str, value: float) -> None:
    assert read_yaml(text) == value
    assert isinstance(read_yaml(text), float)


@pytest.mark.parametrize("text", ["1e", "e3", "1e-3x", "v1e3", "'1e-3'"])
def test_yaml_leaves_text_alone(text: str) -> None:
    assert isinstance(read_yaml(text), str)


def test_a_file_of_yaml_may_write_rates_as_people_do(tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(
        "teacher: {kind: timm, name: resnet18}\ndata: {kind: digits}\nbudget: {params: 50000}\ndistill: {lr: 1e-3}\n"
    )
    assert read_request(path).distill.lr == 1e-3
