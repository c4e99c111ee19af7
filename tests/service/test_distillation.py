"""What a request can ask of its distillation, over HTTP: verification, several seeds, a baseline, sums of losses."""

from __future__ import annotations

from typing import Any

import pytest

from archsearch.client import Client
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
