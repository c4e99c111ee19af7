from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from archsearch.distill.loss import losses
from archsearch.proxies import proxies
from archsearch.proxies.score import DEFAULT
from archsearch.spaces import of_domain
from tests.api.conftest import Refused


def test_every_registered_space_is_listed_with_its_bounds(client: TestClient) -> None:
    found = {space["name"]: space for space in client.get("/v1/spaces", params={"image_size": 32}).json()}
    assert sorted(found) == sorted(space.name for space in of_domain("image_classification"))
    for name, space in found.items():
        assert space["smallest"]["params"] < space["largest"]["params"]
        assert space["smallest"]["macs"] < space["largest"]["macs"]
        assert space["cardinality"] > 1
        assert {parameter["name"] for parameter in space["parameters"]} == set(space["largest"]["architecture"])
        assert client.get(f"/v1/spaces/{name}", params={"image_size": 32}).json() == space
        assert space["refuses"] is None
    assert {name for name, space in found.items() if space["benchmark"]} == {"autoformer", "nasbench201", "pit"}


def test_a_space_that_cannot_take_the_images_says_why(client: TestClient) -> None:
    found = client.get("/v1/spaces/convnext", params={"image_size": 8}).json()
    assert "8" in found["refuses"]
    assert (found["parameters"], found["smallest"]) == ([], None)


@pytest.mark.parametrize("image_size", [4, 5, 7, 32, 224, 512])
def test_spaces_exist_for_every_size_of_image(client: TestClient, image_size: int) -> None:
    answer = client.get("/v1/spaces", params={"image_size": image_size, "classes": 2, "in_chans": 1})
    assert answer.status_code == 200, answer.text


def test_an_unknown_space_suggests_the_nearest(refused: Refused) -> None:
    part = "did you mean 'resnet_cifar'?"
    refused("GET", "/v1/spaces/resnet_ciphar", status=422, code="unknown_name", field="name", part=part)


def test_every_registered_proxy_is_listed_with_its_default_weight(client: TestClient) -> None:
    found = {proxy["name"]: proxy["default_weight"] for proxy in client.get("/v1/proxies").json()}
    assert sorted(found) == sorted(proxy.name for proxy in proxies)
    assert {name: weight for name, weight in found.items() if weight} == dict(DEFAULT)


def test_every_registered_loss_is_listed(client: TestClient) -> None:
    found = {loss["name"]: loss["needs_teacher"] for loss in client.get("/v1/losses").json()}
    assert found == {loss.name: loss.needs_teacher for loss in losses}


def test_losses_are_listed_with_their_settings(client: TestClient) -> None:
    listed = {loss["name"]: loss for loss in client.get("/v1/losses").json()}
    assert listed["dkd"]["settings"]["beta"] == 8
    assert listed["dkd"]["reads"] == ["logits"]
    assert listed["none"]["needs_teacher"] is False


def test_without_a_worker_the_service_is_alive_but_not_ready(client: TestClient) -> None:
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["workers"]) == (503, "no worker", {})


def test_every_operation_documents_its_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) >= 20
    for operation in operations:
        content = operation["responses"]["4XX"]["content"]
        assert "detail" in content["application/problem+json"]["schema"]["properties"], operation["operationId"]
        assert "422" not in operation["responses"]  # FastAPI's own form, which nothing here answers
        assert operation["summary"]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
