"""What a request can ask of its distillation, over HTTP: verification, several seeds, a baseline, sums of losses."""

from __future__ import annotations

from typing import Any

import pytest

from archsearch.client import Client
from archsearch.errors import ServiceError
from tests.service.conftest import House


def outcome(client: Client, request: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    job_id = client.submit(request)["id"]
    events = list(client.watch(job_id))
    return client.job(job_id), events


@pytest.mark.slow
def test_a_job_verifies_its_best_and_distils_by_a_sum_of_losses_from_two_seeds(house: House) -> None:
    request = house.request(
        verify={"candidates": 3, "epochs": 1},
        distill={
            "epochs": 2,
            "batch_size": 64,
            "losses": {"dist": {}, "at": {"weight": 100}},
            "seeds": 2,
            "baseline": True,
        },
    )
    job, events = outcome(house.server.client, request)
    assert job["status"] == "succeeded", job["error"]
    phases = [event["data"]["phase"] for event in events if event["type"] == "phase"]
    assert phases == ["validating", "searching", "verifying", "distilling", "exporting"]
    result = job["result"]
    assert result["verify"]["epochs_trained"] == 3 * 1 + 2 * 2
    assert result["student"]["architecture"] == result["verify"]["winner"]["architecture"]
    student = result["student"]
    assert student["method"] == "dist+at"
    assert student["losses"]["at"] == {"weight": 100.0}
    assert len(student["seeds"]) == 2
    assert student["evaluation"]["no_teacher"]["images"] == result["data"]["images"]["test"]
    progress = [event["data"]["progress"] for event in events if event["type"] == "progress"]
    assert progress


@pytest.mark.parametrize(
    ("distill", "field", "said"),
    [
        ({"method": "kdd"}, "distill.method", "did you mean"),
        ({"losses": {"dkd": {"bta": 2}}}, "distill.losses.dkd.bta", "settings of dkd"),
        ({"method": "mld"}, "distill.method", "not defined for classification tasks"),
        ({"schedule": "steps"}, "distill", "milestones"),
        ({"micro_batch": 48, "batch_size": 64}, "distill", "micro_batch"),
        ({"recipe": "cifr"}, "distill.recipe", "'short', 'cifar' or 'imagenet'"),
    ],
)
def test_what_cannot_be_distilled_is_refused_at_once_by_field(
    house: House, distill: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        house.server.client.submit(house.request(distill=distill))
    assert caught.value.status == 422
    assert caught.value.field == field
    assert said in str(caught.value)


def test_the_losses_are_listed_with_their_settings(house: House) -> None:
    listed = {loss["name"]: loss for loss in house.server.http.get("/v1/losses").json()}
    assert listed["dkd"]["settings"]["beta"] == 8
    assert listed["dkd"]["reads"] == ["logits"]
    assert listed["none"]["needs_teacher"] is False
