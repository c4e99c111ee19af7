"""What a request's device may say, and what it means on a machine with other GPUs than this one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from archsearch import device
from archsearch.errors import InvalidRequest
from archsearch.request import JobRequest, parse_request

WHOLE: dict[str, Any] = {
    "teacher": {"kind": "timm", "name": "resnet18"},
    "data": {"kind": "digits"},
    "budget": {"params_ratio": 0.1},
}


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {torch.device(number).index or 0}"
                        if not isinstance(number, int) else f"GPU {number}")  # fmt: skip


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_a_request_says_where_it_is_computed(name: str) -> None:
    assert parse_request({**WHOLE, "device": name}).device == name


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cpu-torch", "", "cuda:1\n"])
def test_what_is_no_device_is_told_what_is(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"no device to compute on; take auto, cpu, cuda, or .* cuda:1") as caught:
        parse_request({**WHOLE, "device": name})
    assert caught.value.field == "device"


def test_the_schema_tells_the_same_as_the_check() -> None:
    told = JobRequest.model_json_schema()["properties"]["device"]
    assert (told["pattern"], told["default"]) == (device.PATTERN, "auto")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "auto"),
        ({"device": "cuda:1"}, "cuda:1"),
        # As requests of before were written, and kept.
        ({"distill": {"device": "cpu"}}, "cpu"),
        ({"distill": {"device": "auto"}}, "auto"),
        ({"device": "cuda:1", "distill": {"device": "auto"}}, "cuda:1"),
        ({"device": "cuda:1", "distill": {"device": "cpu"}}, "cpu"),
    ],
)
def test_a_training_is_where_the_request_is_unless_an_old_one_says_otherwise(
    body: dict[str, Any], expected: str
) -> None:
    request = parse_request({**WHOLE, **body})
    assert request.training.device == expected
    assert parse_request(request.model_dump(mode="json")) == request


def test_one_gpu_is_not_several() -> None:
    with pytest.raises(InvalidRequest, match=r"cuda:1 is one GPU, and distill\.devices asks for 2"):
        parse_request({**WHOLE, "device": "cuda:1", "distill": {"devices": 2}})


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1"),
     ("cuda:01", 2, "cuda:1")],
)  # fmt: skip
def test_a_name_means_what_is_there(monkeypatch: pytest.MonkeyPatch, name: str, count: int, expected: str) -> None:
    gpus(monkeypatch, count)
    assert device.resolve(name) == expected


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_without_a_gpu_none_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    gpus(monkeypatch, 0)
    with pytest.raises(InvalidRequest, match="torch finds no GPU here; take cpu or auto") as caught:
        device.resolve(name)
    assert caught.value.field == "device"


def test_a_number_that_is_not_there_is_told_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    with pytest.raises(InvalidRequest, match="there is no cuda:2 here, but cuda:0, cuda:1") as caught:
        device.resolve("cuda:2", field="distill.device")
    assert caught.value.field == "distill.device"


def test_every_device_of_a_machine_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert device.here() == {"cpu": "", "cuda:0": "GPU 0", "cuda:1": "GPU 1"}


@pytest.mark.parametrize("one", ["cuda", "cuda:1", torch.device("cuda:1"), torch.device("cuda")])
def test_a_gpu_is_of_its_kind_whatever_its_number(one: str | torch.device) -> None:
    assert device.kind(one) == "cuda"
    assert device.kind("cpu") == device.kind(torch.device("cpu")) == "cpu"


def test_numbers_of_a_processor_are_kept_as_they_always_were(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert device.alike("cpu") == "cpu"
    assert device.alike("cuda:1") == "cuda GPU 1"
    assert device.alike("cuda") == device.alike(torch.device("cuda:0")) == "cuda GPU 0"


def test_a_seed_is_the_one_of_torch() -> None:
    device.seed("cpu", 7)
    ours = torch.rand(3)
    torch.manual_seed(7)
    assert ours.equal(torch.rand(3))
