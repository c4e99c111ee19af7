from __future__ import annotations

import subprocess
import sys

import pytest
from fastapi.testclient import TestClient

from archsearch.distill.loss import losses
from archsearch.domains.text.task import TextTask
from archsearch.proxies import proxies
from archsearch.proxies.score import DEFAULT
from archsearch.spaces import of_domain, spaces
from tests.api.conftest import Refused


def test_every_registered_space_is_listed_with_its_bounds(client: TestClient) -> None:
    found = {space["name"]: space for space in client.get("/v1/spaces", params={"image_size": 32}).json()}
    weighted = found.pop("pretrained")
    assert weighted["refuses"] == "no network with weights is at hand"
    assert client.get("/v1/spaces/pretrained", params={"image_size": 32}).json() == weighted
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


def test_spaces_of_texts_are_listed_for_a_length_and_a_vocabulary(client: TestClient) -> None:
    (found,) = client.get("/v1/spaces", params={"max_length": 64, "vocab_size": 1000, "classes": 2}).json()
    assert (found["name"], found["refuses"], found["stock_timm"]) == ("bert", None, True)
    assert {one["name"] for one in found["parameters"]} == {"layers", "heads", "ffn_ratio"}
    task = TextTask(2, 64, 1000, 0, pair=False)
    bert = spaces.get("bert")
    cost = bert.cost(bert.largest(task), task)
    assert (found["largest"]["params"], found["largest"]["macs"]) == (cost.params, cost.macs)
    assert [one["name"] for one in client.get("/v1/spaces?domain=text_classification").json()] == ["bert"]
    longer = client.get("/v1/spaces/bert", params={"max_length": 128, "vocab_size": 1000, "classes": 2}).json()
    assert longer["largest"]["macs"] > 2 * found["largest"]["macs"]
    assert longer["largest"]["params"] == found["largest"]["params"]
    assert client.get("/v1/spaces/bert").json()["refuses"] is None
    assert "image classification" in client.get("/v1/spaces/bert", params={"image_size": 32}).json()["refuses"]


@pytest.mark.parametrize(
    ("query", "field", "part"),
    [
        ("max_length=4", "query.max_length", "greater than or equal to 8"),
        ("vocab_size=1", "query.vocab_size", "greater than or equal to 2"),
        ("domain=sound", "query.domain", "text_classification"),
        ("domain=text_classification&image_size=32", "image_size", "texts have no image_size"),
        ("max_length=64&in_chans=1", "max_length", "images have no max_length"),
    ],
)
def test_sizes_that_the_examples_do_not_have_are_refused(refused: Refused, query: str, field: str, part: str) -> None:
    refused("GET", f"/v1/spaces?{query}", status=422, code="invalid_request", field=field, part=part)


def test_proxies_and_losses_tell_whose_networks_they_are_for(client: TestClient) -> None:
    proxies = {one["name"]: one for one in client.get("/v1/proxies").json()}
    both = ["image_classification", "text_classification"]
    assert proxies["encoder_size"]["default_weights"] == {"text_classification": 1.0}
    assert (proxies["capacity"]["domains"], proxies["synflow"]["domains"]) == (both, both[:1])
    losses = {one["name"]: one["domains"] for one in client.get("/v1/losses").json()}
    assert (losses["kd"], losses["minilm"], losses["fitnet"]) == (both, both[1:], both[:1])


def test_spaces_of_every_domain_are_told_without_their_libraries() -> None:
    code = (
        "import sys; from api.routes import catalogue; from archsearch import domains; from archsearch.spaces import "
        "of_domain; told = [catalogue.describe(space, domains.sized(name, 2, {})) for name in domains.DOMAINS for "
        "space in of_domain(name)]; catalogue.list_losses(); catalogue.list_proxies(); "
        "print([name for name in ('torch', 'timm', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True).stdout == "[]\n"
