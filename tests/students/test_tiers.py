"""Several students of one request, however they are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from archsearch.errors import ImpossibleBudget, InvalidRequest
from archsearch.request import StudentLimits, parse_request
from archsearch.students import settled, tiers

BASE = {"teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}}


def asked(**changes: Any) -> Any:
    return parse_request({**BASE, **changes})


def test_one_student_is_what_a_request_asks_for_unless_it_says_otherwise() -> None:
    request = asked(budget={"params": 1000})
    assert (request.students, request.how_many, request.search.candidates) == (1, 1, 64)
    assert asked(budget={"params": [1000]}) == request
    (tier,) = tiers(request)
    assert tier.request is request


def test_limits_in_the_budget_are_students_the_loosest_first() -> None:
    request = asked(budget={"latency_ms": [1, 5, 2], "params": 900})
    assert request.budget.limits == {"params": 900, "latency_ms": 5}
    assert isinstance(request.students, StudentLimits)
    assert request.students.of == ("latency_ms", (5, 2, 1))
    assert parse_request(request.model_dump(mode="json")) == request
    assert asked(students={"latency_ms": [5, 2, 1]}, budget={"params": 900}) == request
    assert [tier.request.budget.latency_ms for tier in tiers(request)] == [5, 2, 1]
    assert all(tier.request.budget.params == 900 for tier in tiers(request))


def test_candidates_and_time_are_shared_out_and_the_first_gets_twice_as_much() -> None:
    left_open = asked(budget={"params": [90, 50, 10]})
    assert left_open.search.candidates == 128
    assert [tier.request.search.candidates for tier in tiers(left_open)] == [64, 32, 32]
    said = asked(budget={"params": [90, 50, 10]}, search={"candidates": 9, "time_limit_s": 8.0})
    assert [tier.request.search.candidates for tier in tiers(said)] == [5, 2, 2]
    assert [tier.request.search.time_limit_s for tier in tiers(said)] == [4.0, 2.0, 2.0]
    assert [tier.request.search.candidates for tier in tiers(asked(students=3, search={"candidates": 2}))] == [2, 1, 1]


@pytest.mark.parametrize(
    ("changes", "cost", "limits", "why"),
    [
        ({"students": 3, "budget": {"params_ratio": 0.4}}, "params_ratio", (0.4, 0.2, 0.1), "the budget's limit"),
        ({"students": 2, "budget": {"macs": 101, "params": 9}}, "macs", (101, 50), "the budget's limit"),
        ({"students": 3}, "params_ratio", (1.0, 0.5, 0.25), "limits no params: the teacher's"),
        ({"students": 2, "budget": {"params": 9}, "search": {"trade": "macs"}}, "macs_ratio", (1.0, 0.5), "no macs"),
        ({"students": 2, "budget": {"latency_ms": 3}}, "latency_ms", (3, 1.5), "the budget's limit"),
    ],
)
def test_a_number_of_students_is_the_limit_and_halves_of_it(changes: Any, cost: str, limits: Any, why: str) -> None:
    request, told = settled(asked(**changes))
    assert request.students.of == (cost, limits)
    assert getattr(request.budget, cost) == limits[0]
    assert why in told["students"]
    assert settled(request) == (request, {}), "settled once"
    assert tiers(asked(**changes)) == tiers(request)


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"budget": {"latency_ms": [5, 2], "macs": [9, 8]}}, "budget.macs", "as budget.latency_ms has"),
        ({"budget": {"latency_ms": [5, 2, 5]}}, "budget.latency_ms.2", "5 is there twice"),
        ({"budget": {"latency_ms": [5, "2"]}}, "budget.latency_ms.1", "not text"),
        ({"budget": {"params_ratio": [0.5, 1.5]}}, "budget.params_ratio.1", "less than or equal to 1"),
        ({"budget": {"params": []}}, "budget.params", "1 to 8 limits"),
        ({"budget": {"params": list(range(9, 0, -1))}}, "budget.params", "there are 9"),
        ({"budget": {"params": [3, 2]}, "students": 3}, "students", "leave students out"),
        ({"students": 9}, "students", "less than or equal to 8"),
        ({"students": 0}, "students", "greater than or equal to 1"),
        ({"students": "3"}, "students", "not text"),
        ({"students": {"macs": [3, 2]}, "budget": {"macs": 2}}, "students.macs", "leave that out"),
        ({"students": {"macs": [3, 2], "params": [3, 2]}}, "students", "macs"),
        ({"students": {"mac": [3, 2]}}, "students", "did you mean"),
        ({"students": {}}, "students", "limits of one cost"),
        (
            {"students": 2, "kind": "distill", "student": {"space": "vit", "architecture": {}}},
            "students",
            "one named student",
        ),
        ({"budget": {"params": [9, 8]}, "kind": "distill", "student": {"job": "job_0123456789", "candidate": 1}},
         "students", "one named student"),
    ],
)  # fmt: skip
def test_what_makes_no_students_is_refused_by_its_field(changes: Any, field: str, part: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        asked(**changes)
    assert error.value.field == field
    assert part in error.value.detail


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"students": 3, "budget": {"params": 3}}, "no 3 halves"),
        ({"students": 2, "budget": {"params": 9}, "search": {"trade": "latency_ms"}}, "budget.latency_ms"),
    ],
)
def test_halves_that_are_none_are_refused(changes: Any, part: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        settled(asked(**changes))
    assert error.value.field == "students"
    assert part in error.value.detail


def test_an_impossible_limit_is_named_among_the_others() -> None:
    _, second = tiers(asked(budget={"macs": [9, 8]}))
    with pytest.raises(ImpossibleBudget) as error, second.named():
        raise ImpossibleBudget("macs ≤ 8 is below every network", field="budget")
    assert (error.value.field, error.value.detail) == ("budget.macs.1", "student 2: macs ≤ 8 is below every network")
