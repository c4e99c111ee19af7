"""What only torch can find wrong: the worker says it in the row, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.errors import ServiceError
from archsearch.teachers import build
from tests.service.conftest import House
from tests.service.server import PATIENCE_S, wait

pytestmark = pytest.mark.slow

ARGS = {"depths": [1, 1, 1], "widths": [8, 8, 8]}


@pytest.fixture(autouse=True)
def unharmed(house: House) -> Iterator[None]:
    """None of this may cost the worker its life."""
    wait(lambda: house.server.worker_pid() is not None, lambda: "there is no worker")
    before = house.server.worker_pid()
    yield
    assert house.server.worker_pid() == before


def untrained(folder: Path, classes: int) -> Path:
    from safetensors.torch import save_file

    path = folder / "weights.safetensors"
    save_file(build("cifar_resnet", {"num_classes": classes, "in_chans": 1, **ARGS}).state_dict(), path)
    return path


def source(classes: int = 10, **changes: Any) -> dict[str, Any]:
    return {"architecture": "cifar_resnet", "model_args": ARGS, "num_classes": classes, "in_chans": 1, **changes}


def refusal(house: House, source: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    with pytest.raises(ServiceError) as caught:
        house.server.client.add_teacher(source, wait_s=PATIENCE_S, **kwargs)
    return caught.value.body


def test_a_misspelt_timm_teacher_is_refused_with_the_name_that_was_meant(house: House) -> None:
    problem = refusal(house, {"kind": "timm", "name": "resnet81"})
    assert (problem["code"], problem["field"]) == ("unknown_name", "teacher.name")
    assert "did you mean 'resnet18'?" in problem["detail"]


def test_a_job_with_a_misspelt_timm_teacher_fails_with_the_same_problem(house: House) -> None:
    teacher = {"kind": "timm", "name": "resnet81"}
    job = house.server.wait_for(house.server.submit(house.request(teacher=teacher)), "failed")
    assert (job["error"]["code"], job["error"]["field"]) == ("unknown_name", "teacher.name")
    assert "did you mean 'resnet18'?" in job["error"]["detail"]
    assert (job["candidates_scored"], job["result"]) == (0, None)
    last = house.server.events(job["id"])[-1]
    assert (last["type"], last["data"]["error"]) == ("done", job["error"])


def test_weights_of_another_architecture_are_refused_by_tensor(house: House, tmp_path: Path) -> None:
    wider = source(model_args={**ARGS, "widths": [8, 8, 16]})
    problem = refusal(house, wider, weights=untrained(tmp_path, 10))
    assert problem["code"] == "invalid_teacher"
    assert "stages.2" in problem["detail"] or "head" in problem["detail"] or "fc" in problem["detail"], problem


def test_arguments_timm_cannot_build_with_are_refused(house: House, tmp_path: Path) -> None:
    problem = refusal(house, source(model_args={"no_such_argument": 3}), weights=untrained(tmp_path, 10))
    assert problem["code"] == "invalid_teacher"
    assert "no_such_argument" in problem["detail"]


def test_weights_that_are_no_numbers_are_refused(house: House, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = untrained(tmp_path, 10)
    weights = load_file(path)
    next(value for value in weights.values() if value.is_floating_point()).fill_(torch.nan)
    save_file(weights, path)
    problem = refusal(house, source(), weights=path)
    assert (problem["code"], "not finite" in problem["detail"]) == ("invalid_teacher", True)


def test_a_teacher_that_only_guesses_is_refused(house: House, tmp_path: Path) -> None:
    problem = refusal(house, source(), weights=untrained(tmp_path, 10), data=house.named["data"])
    assert problem["code"] == "invalid_teacher"
    assert "guessing reaches" in problem["detail"]


def test_a_teacher_for_other_classes_is_ready_but_for_no_job_on_this_data(house: House, tmp_path: Path) -> None:
    client = house.server.client
    teacher = client.add_teacher(source(7), weights=untrained(tmp_path, 7), wait_s=PATIENCE_S)
    assert (teacher["status"], teacher["facts"]["num_classes"]) == ("ready", 7)
    body = house.request(teacher={"kind": "teacher", "id": teacher["id"]})
    answer = house.server.http.post("/v1/jobs", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "invalid_teacher", "teacher")
    assert "knows 7 classes, the data has 10" in problem["detail"]


def test_a_job_that_did_not_wait_for_the_check_of_its_teacher_fails_like_it(house: House, tmp_path: Path) -> None:
    server = house.server
    # Behind a job that keeps the worker busy, so that the teacher is surely unchecked when its job is asked for.
    busy = server.submit(house.request(distill={"epochs": 5000, "batch_size": 64}))
    teacher = server.client.add_teacher(source(7), weights=untrained(tmp_path, 7), wait_s=0)
    assert teacher["status"] == "checking"
    answer = server.http.post("/v1/jobs", json=house.request(teacher={"kind": "teacher", "id": teacher["id"]}))
    server.client.cancel(busy)
    if answer.status_code == 202:
        job = server.wait_for(answer.json()["id"], "failed")
        assert job["error"]["code"] == "invalid_teacher"
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_teacher")
    server.wait_for(busy, "cancelled")


def test_a_refused_teacher_takes_no_jobs(house: House) -> None:
    teacher = house.server.http.post("/v1/teachers", json={"source": {"kind": "timm", "name": "resnet81"}}).json()
    path = f"/v1/teachers/{teacher['id']}"
    wait(lambda: house.server.http.get(path).json()["status"] == "refused", lambda: "it was not refused")
    body = house.request(teacher={"kind": "teacher", "id": teacher["id"]})
    answer = house.server.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "teacher.id")
    assert "was refused: unknown timm model" in answer.json()["detail"]


def test_after_all_of_these_a_normal_job_succeeds(house: House) -> None:
    job_id = house.server.submit(house.request(kind="search", search={"candidates": 2, "batch_size": 32}))
    assert house.server.wait_for(job_id, "succeeded")["result"]["search"]["candidates_scored"] == 2
