"""What a request leaves open is settled by the data and the families that are left, and said."""

from __future__ import annotations

from typing import Any

import pytest

from archsearch.defaults import as_before, settle
from archsearch.errors import InvalidRequest
from archsearch.request import JobRequest, VerifySpec, parse_request

FAMILIES = ["mobilenet", "regnet"]


def request(**parts: Any) -> JobRequest:
    teacher, data = {"kind": "timm", "name": "resnet18"}, {"kind": "digits"}
    return parse_request({"teacher": teacher, "data": data, "budget": {"params": 9999}, **parts})


def test_settled_a_request_leaves_nothing_open_and_stays_as_it_is() -> None:
    found = settle(request(), 1_300, FAMILIES)
    assert settle(found.request, 1_300, FAMILIES).request == found.request
    assert parse_request(found.request.model_dump(mode="json")) == found.request
    assert (found.request.distill.batch_size, found.request.distill.epochs) == (32, 100)
    assert found.request.search.batch_size == 64
    assert found.request.verification == VerifySpec(candidates=4, epochs=2, rounds=1, share=0.1)
    assert found.why["verify"].startswith("2 families are left (mobilenet, regnet)")


@pytest.mark.parametrize(
    ("parts", "families"),
    [
        ({"verify": None}, FAMILIES),
        ({"kind": "search"}, FAMILIES),
        ({"search": {"space": "mobilenet"}}, FAMILIES),
        ({}, FAMILIES[:1]),
        ({"search": {"candidates": 1}}, FAMILIES),
    ],
)
def test_nothing_is_verified_where_it_is_off_or_there_is_nothing_between_families(
    parts: dict[str, Any], families: list[str]
) -> None:
    found = settle(request(**parts), 1_300, families)
    assert (found.request.verify, found.why.get("verify")) == (None, None)


def test_a_training_too_short_for_a_tenth_of_it_says_so() -> None:
    found = settle(request(distill={"epochs": 19}), 1_300, FAMILIES)
    assert found.request.verify is None
    assert "no epoch for two" in found.why["verify"]
    several = settle(request(distill={"epochs": 19, "seeds": 3, "baseline": True}), 1_300, FAMILIES)
    assert several.request.verification == VerifySpec(candidates=4, epochs=1, rounds=1, share=0.1)


def test_what_is_asked_for_stays() -> None:
    found = settle(request(verify={"candidates": 3}), 1_300, FAMILIES)
    assert found.request.verification == VerifySpec(candidates=3, epochs=4)
    assert settle(request(verify={"candidates": 3}, kind="search"), 1_300).request.verification


def test_candidates_are_scored_on_as_many_images_as_there_are() -> None:
    assert settle(request(), 40).request.search.batch_size == 40
    with pytest.raises(InvalidRequest, match="64 is more than the 40 training examples") as caught:
        settle(request(search={"batch_size": 64}), 40)
    assert caught.value.field == "search.batch_size"
    with pytest.raises(InvalidRequest, match="too few"):
        settle(request(), 7)


def test_a_request_kept_before_anything_could_be_left_open_is_still_the_same() -> None:
    """It was kept with the defaults of its day, and is sent again without."""
    before = as_before(request().model_dump(mode="json"))
    assert (before["distill"]["epochs"], before["distill"]["batch_size"], before["verify"]) == (60, 128, None)
    assert as_before(before) == before
    kept = parse_request(before)
    assert kept == settle(kept, 50_000, FAMILIES).request, "and is carried out as it was"
