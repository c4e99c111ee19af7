from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save

from archsearch.store.models import TeacherRow
from tests.api.conftest import Json, Refused, Send, finish, npz, request, small_arrays

WEIGHTS = save({"head.weight": np.zeros((4, 8), dtype=np.float32)})


def source(id: str, **changes: Any) -> Json:
    known = {"kind": "upload", "upload": id, "architecture": "resnet18", "num_classes": 4, "in_chans": 1}
    return {"source": {**known, **changes}}


def pickled(**options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"head.weight": torch.zeros(4, 8)}, stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        (WEIGHTS[:-1], "was the upload cut short?"),
        (WEIGHTS[:20], "was the upload cut short?"),
        (b"\0", "not a whole safetensors file"),
        (b"\xff" * 1000, "not a whole safetensors file"),
        (b'{"head.weight": [0]}', "not a whole safetensors file"),
        (save({}), "holds no tensors"),
        (pickled(), "pickled"),
        (pickled(_use_new_zipfile_serialization=False), "pickled"),
    ],
    ids=["cut at the end", "cut in the header", "one byte", "garbage", "JSON", "empty", "torch.save", "old torch.save"],
)
def test_weights_that_are_not_whole_safetensors_are_refused(
    refused: Refused, send: Send, weights: bytes, part: str
) -> None:
    body = source(send(weights))
    refused("POST", "/v1/teachers", status=422, code="invalid_teacher", field="source.upload", part=part, json=body)


def test_a_head_for_other_classes_than_the_data_is_refused(refused: Refused, send: Send, dataset: str) -> None:
    data = {"kind": "dataset", "id": dataset}
    expected = {"status": 422, "code": "invalid_teacher", "field": "source"}
    body = {**source(send(WEIGHTS), num_classes=7), "data": data}
    refused("POST", "/v1/teachers", **expected, part="knows 7 classes, the data has 4", json=body)
    body = {**source(send(WEIGHTS), in_chans=3), "data": data}
    refused("POST", "/v1/teachers", **expected, part="knows 3 channels, the data has 1", json=body)


@pytest.fixture(scope="module")
def animals(client: TestClient, send: Send) -> str:
    """The id of a data set whose four classes have names."""
    names = np.array(["ant", "bee", "cat", "dog"])
    answer = client.post(
        "/v1/datasets", json={"upload": send(npz(**small_arrays(), class_names=names)), "format": "npz"}
    )
    return str(finish(client, answer.headers["location"])["id"])


def test_other_names_than_the_datas_are_refused_unless_a_map_is_given(
    client: TestClient, refused: Refused, send: Send, animals: str
) -> None:
    data = {"kind": "dataset", "id": animals}
    body = {**source(send(WEIGHTS), class_names=["ant", "wasp", "cat", "dog"]), "data": data}
    part = "class 1 is 'bee' in the data and 'wasp' to the teacher"
    expected = {"status": 422, "code": "invalid_teacher"}
    refused("POST", "/v1/teachers", **expected, field="source", part=part, json=body)
    taken = client.post("/v1/teachers", json={"source": {**body["source"], "classes": {"bee": "wasp"}}, "data": data})
    assert taken.status_code == 202, taken.text
    unmeasured = client.post("/v1/teachers", json={"source": body["source"]}).json()["id"]
    job = request(
        search={"batch_size": 32}, teacher={"kind": "teacher", "id": unmeasured}, data=data, distill={"batch_size": 32}
    )
    refused("POST", "/v1/jobs", **expected, field="teacher", part=part, json=job)
    job["teacher"]["classes"] = {"bee": "bumblebee"}
    part = "knows no class 'bumblebee'; it has 'ant', 'wasp', 'cat', 'dog'"
    refused("POST", "/v1/jobs", **expected, field="teacher.classes.bee", part=part, json=job)
    job["teacher"]["classes"] = {"bee": 1}
    assert client.post("/v1/jobs", json=job).status_code == 202


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"class_names": ["ant", "bee"]}, "source", "give 4 names, one for each output"),
        ({"class_names": ["ant", "bee", "cat", "cat"]}, "source", "no two alike"),
        ({"model_args": {"pretrained": True}}, "source.model_args.pretrained", "not yours to set"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "source.model_args.checkpoint_path", "not yours"),
        ({"model_args": {"cache_dir": "x"}}, "source.model_args.cache_dir", "not yours"),
        ({"model_args": {"features_only": True}}, "source.model_args.features_only", "not yours"),
        ({"model_args": {"num_classes": 9}}, "source.model_args.num_classes", "not yours"),
        ({"model_args": {"depth": 10**9}}, "source.model_args.depth", "is no size"),
        ({"model_args": {"act": "../../x"}}, "source.model_args.act", "is no size"),
        ({"model_args": {"act": {"a": 1}}}, "source.model_args.act", "is no size"),
        ({"model_args": {"act": None}}, "source.model_args.act", "is no size"),
        ({"model_args": {"widths": [1, [2, [10**9]]]}}, "source.model_args.widths", "is no size"),
        ({"architecture": "local-dir:/etc"}, "source.architecture", "local-dir:"),
        ({"architecture": "hf-hub:someone/something"}, "source.architecture", "hf-hub:"),
        ({"num_classes": 1}, "source.head", "a backbone without a head"),
        ({"mean": [0.5, 0.5]}, "source", "mean has 2 values for 1 channels"),
        ({"std": [0.0]}, "source", "std must be positive"),
        ({"input_sise": 32}, "source", "did you mean 'input_size'?"),
        ({"upload": "../../etc"}, "source.upload", "match pattern"),
    ],
)
def test_an_uploaded_teacher_is_described_with_sizes_only(
    refused: Refused, send: Send, changes: dict[str, Any], field: str, part: str
) -> None:
    body = source(send(WEIGHTS), **changes)
    refused("POST", "/v1/teachers", status=422, code="invalid_request", field=field, part=part, json=body)


@pytest.mark.parametrize(
    ("given", "field", "part"),
    [
        ({"kind": "timm", "name": "local-dir:/etc"}, "source.name", "local-dir:"),
        ({"kind": "timm", "name": ""}, "source.name", "at least 1"),
        ({"kind": "local", "path": "/etc"}, "source", "'timm', 'upload'"),
        ({"kind": "teacher", "id": "tch_" + "0" * 20}, "source", "'timm', 'upload'"),
        ({"name": "resnet18"}, "source", "discriminator"),
    ],
)
def test_only_timm_and_uploads_are_sources(refused: Refused, given: Json, field: str, part: str) -> None:
    body = {"source": given}
    refused("POST", "/v1/teachers", status=422, code="invalid_request", field=field, part=part, json=body)


def test_uploads_and_data_nobody_made_are_not_found(refused: Refused, send: Send) -> None:
    expected = {"status": 404, "code": "not_found", "part": "there is no"}
    refused("POST", "/v1/teachers", **expected, field="source.upload", json=source("up_" + "0" * 20))
    data = {"kind": "dataset", "id": "ds_" + "0" * 20}
    refused("POST", "/v1/teachers", **expected, field="data.id", json={**source(send(WEIGHTS)), "data": data})
    assert refused.client.get("/v1/teachers/tch_x").status_code == 404


def test_deeply_nested_arguments_are_refused_and_break_nothing(refused: Refused, send: Send) -> None:
    upload = send(WEIGHTS)
    for depth in (500, 900, 5000):
        nested = "[" * depth + "10e9" + "]" * depth
        text = json.dumps(source(upload, model_args={"a": "NESTED"})).replace('"NESTED"', nested)
        with refused.nothing_created():
            headers = {"Content-Type": "application/json"}
            answer = refused.client.post("/v1/teachers", content=text, headers=headers)
        assert answer.status_code in (400, 422), (depth, answer.text)


def test_a_teacher_waits_for_its_check(client: TestClient, send: Send) -> None:
    answer = client.post("/v1/teachers", json={**source(send(WEIGHTS)), "name": "mine"})
    found = answer.json()
    assert (answer.status_code, found["status"], found["name"]) == (202, "checking", "mine")
    assert answer.headers["location"] == f"/v1/teachers/{found['id']}"
    assert client.get(f"/v1/teachers/{found['id']}").json() == found
    assert client.get("/v1/teachers", params={"limit": 1}).json()["data"] == [found]


def test_more_blocks_than_tensors_are_refused_at_once(refused: Refused, send: Send) -> None:
    for depths, part in (([65536, 1, 1], "more than any network has"), ([200, 2, 2], "weights of 1 tensors")):
        body = source(send(WEIGHTS), model_args={"depths": depths})
        field = "source.model_args.depths"
        refused("POST", "/v1/teachers", status=422, code="invalid_request", field=field, part=part, json=body)


def test_a_teacher_refused_for_now_is_checked_again_when_asked_and_when_used(
    client: TestClient, refused: Refused, send: Send
) -> None:
    id = client.post("/v1/teachers", json=source(send(WEIGHTS), num_classes=10)).json()["id"]

    def settle(status: str, **error: Any) -> None:
        services = client.app.state.services  # type: ignore[attr-defined]
        with services.sessions.begin() as session:
            row = session.get_one(TeacherRow, id)
            row.status, row.error = status, error or None

    def status() -> str:
        return str(client.get(f"/v1/teachers/{id}").json()["status"])

    job = request(teacher={"kind": "teacher", "id": id})
    settle("refused", detail="the hub does not answer", retryable=True)
    again = client.post(f"/v1/teachers/{id}:check")
    assert (again.status_code, again.json()["status"], again.json()["error"]) == (202, "checking", None)
    assert client.post(f"/v1/teachers/{id}:check").status_code == 202  # it is being checked already
    settle("refused", detail="the hub does not answer", retryable=True)
    assert client.post("/v1/jobs", json=job).status_code == 202
    assert status() == "checking"
    settle("refused", detail="it only guesses", retryable=False)
    expected = {"code": "invalid_teacher", "field": "teacher.id"}
    refused("POST", "/v1/jobs", status=422, **expected, part="it only guesses", json=job)
    settle("ready")
    refused("POST", f"/v1/teachers/{id}:check", status=409, code="conflict", field=None, part="is ready")
    path = "/v1/teachers/tch_00000000:check"
    refused("POST", path, status=404, code="not_found", field=None, part="tch_00000000")


def test_weights_whose_file_is_gone_are_to_be_sent_again(client: TestClient, refused: Refused, send: Send) -> None:
    id = send(WEIGHTS)
    client.app.state.services.files.upload(id).unlink()  # type: ignore[attr-defined]
    expected = {"status": 410, "code": "gone", "part": f"the content of {id} is gone; upload it again"}
    refused("POST", "/v1/teachers", **expected, field="source.upload", json=source(id))
    refused("POST", "/v1/datasets", **expected, field="upload", json={"upload": id, "format": "npz"})


def test_a_teacher_whose_data_was_deleted_is_not_measured_on_them_again(
    client: TestClient, refused: Refused, send: Send
) -> None:
    answer = client.post("/v1/datasets", json={"upload": send(npz(**small_arrays(count=160))), "format": "npz"})
    data = finish(client, answer.headers["location"])["id"]
    teacher = {"source": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "dataset", "id": data}}
    id = client.post("/v1/teachers", json=teacher).json()["id"]
    with client.app.state.services.sessions.begin() as session:  # type: ignore[attr-defined]
        row = session.get_one(TeacherRow, id)
        row.status, row.error = "refused", {"detail": "the hub does not answer", "retryable": True}
    assert client.delete(f"/v1/datasets/{data}").status_code == 204
    expected = {"status": 404, "code": "not_found", "field": "data.id", "part": "there is no data set"}
    refused("POST", f"/v1/teachers/{id}:check", **expected)
    # A job has data of its own.
    assert client.post("/v1/jobs", json=request(teacher={"kind": "teacher", "id": id})).status_code == 202
    assert client.get(f"/v1/teachers/{id}").json()["status"] == "refused"


def test_a_key_stands_for_a_teacher_that_was_kept_before_a_field_existed(client: TestClient) -> None:
    body, headers = {"source": {"kind": "timm", "name": "resnet18"}}, {"Idempotency-Key": "once"}
    row = client.post("/v1/teachers", json=body, headers=headers).json()
    assert row["source"]["head"] == "keep"
    with client.app.state.services.transaction() as session:  # type: ignore[attr-defined]
        kept = session.get_one(TeacherRow, row["id"])
        kept.source = {name: value for name, value in kept.source.items() if name != "head"}
    assert client.post("/v1/teachers", json=body, headers=headers).json()["id"] == row["id"]


def test_what_is_no_onnx_file_is_refused_before_a_worker_sees_it(send: Send, refused: Refused) -> None:
    for content, said in ((b"\x80\x04K\x01.", "no ONNX file but"), (b"\x08\x09\x12\xff" * 9, "not a whole ONNX file")):
        source = {"kind": "onnx", "upload": send(content)}
        request = {"json": {"source": source}, "status": 422, "code": "invalid_teacher"}
        refused("POST", "/v1/teachers", field="source.upload", part=said, **request)
    wrong = {"kind": "onnx", "upload": source["upload"], "std": [0.0]}
    refused(
        "POST", "/v1/teachers", json={"source": wrong}, status=422, code="invalid_request", field="source", part="std"
    )
