"""Teachers of texts as zips of their folders: what the API tells of them by itself, without torch or transformers."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save

from archsearch.store.models import TeacherRow
from archsearch.teachers.archive import unpack_archive
from tests.api.conftest import Json, Refused, Send, finish, request

WEIGHTS = save({"classifier.weight": np.zeros((2, 16), dtype=np.float32)})
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 20,
    "id2label": {"0": "bad", "1": "good"},
}
FILES = {"model.safetensors": WEIGHTS, "tokenizer.json": b"{}"}


def zipped(files: dict[str, bytes], under: str = "", packing: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(under + name, content)
    return stream.getvalue()


def folder(under: str = "", files: dict[str, bytes] = FILES, **config: Any) -> bytes:
    """A teacher's zip; of its config these fields are others, and those that are None are left out."""
    fields = {name: value for name, value in {**CONFIG, **config}.items() if value is not None}
    return zipped({"config.json": json.dumps(fields).encode(), **files}, under)


def source(id: str, **changes: Any) -> Json:
    return {"source": {"kind": "folder", "upload": id, **changes}}


@pytest.fixture(scope="module")
def texts(client: TestClient, send: Send) -> Json:
    """Names a data set of texts of at most 16 tokens: classes `bad` and `good`."""
    rows = "".join(f"text number {i},{('bad', 'good')[i % 2]}\n" for i in range(60))
    body = {"upload": send(f"text,label\n{rows}".encode()), "format": "text", "max_length": 16}
    found = finish(client, client.post("/v1/datasets", json=body).headers["location"])
    assert found["status"] == "ready", found
    return {"kind": "dataset", "id": found["id"]}


@pytest.mark.parametrize("under", ["", "my teacher/"])
def test_what_a_folder_tells_is_known_at_once(client: TestClient, send: Send, texts: Json, under: str) -> None:
    more = {
        "README.md": b"mine",
        "training_args.bin": b"\x80\x04",
        "modeling_mine.py": b"import os",
        "onnx/a.json": b"{",
    }
    answer = client.post("/v1/teachers", json={**source(send(folder(under, {**FILES, **more}))), "data": texts})
    found = answer.json()
    assert (answer.status_code, found["status"], found["sha256"]) == (202, "checking", None), answer.text
    assert found["facts"] == {
        "domain": "text_classification", "architecture": "bert", "max_length": 20, "num_classes": 2,
        "class_names": ["bad", "good"],
    }  # fmt: skip


BAD = [
    (WEIGHTS, "no zip at all"),
    (folder()[:-30], "no zip at all"),
    (zipped(FILES), "holds no config.json"),
    (zipped({"a/config.json": b"{}", "b/config.json": b"{}"}), "holds two teachers, a/config.json and b/config.json"),
    (zipped({"config.json": b"[]"}), "holds no mapping"),
    (zipped({"config.json": b"{"}), "config.json cannot be read"),
    (zipped({"config.json": b" " * 2**22 + b"{}"}, packing=zipfile.ZIP_DEFLATED), "too many for a configuration"),
    (zipped({"../config.json": b"{}"}), "climbs out of the archive"),
    (zipped({f"{i}.json": b"" for i in range(1001)}), "has 1,001 members"),
    (folder(files={}), "has no model.safetensors"),
    (folder(files={**FILES, "adapter_config.json": b"{}"}), "is an adapter"),
    (folder(files={"tokenizer.json": b"{}", "pytorch_model.bin": b"\x80"}), "pickled weights"),
    (folder(files={"tokenizer.json": b"{}", "model.safetensors.index.json": b"{}"}), "weights in parts"),
    (folder(files={"model.safetensors": WEIGHTS}), "has no tokenizer.json"),
    (folder(model_type="gpt2"), "is no encoder known here"),
    (folder(auto_map={"AutoModel": "mine.Model"}), "names code of its own"),
    (folder(hidden_size=10**9), "hidden_size"),
    (folder(vocab_size=None), "vocab_size"),
    (folder(id2label={"0": "stars"}), "regression"),
    (folder(problem_type="regression"), "regression"),
    (folder(model_type=None), "pretrained_cfg"),
]


@pytest.mark.parametrize(("content", "part"), BAD, ids=[part for _, part in BAD])
def test_what_is_no_teachers_folder_is_refused(refused: Refused, send: Send, content: bytes, part: str) -> None:
    expected = {"status": 422, "code": "invalid_teacher", "field": "source.upload"}
    if "members" in part:
        expected |= {"status": 413, "code": "too_large"}
    problem = refused("POST", "/v1/teachers", **expected, part=part, json=source(send(content)))
    assert "/uploads" not in problem["detail"]


def test_a_zip_that_unpacks_to_far_more_than_was_sent_is_refused(refused: Refused, send: Send) -> None:
    bomb = zipped({"config.json": b"{}", "model.safetensors": b"\0" * 100_000_000}, packing=zipfile.ZIP_DEFLATED)
    expected = {"status": 413, "code": "too_large", "field": "source.upload", "part": "unpacks to"}
    refused("POST", "/v1/teachers", **expected, json=source(send(bomb)))


@pytest.mark.parametrize(
    ("config", "changes", "field", "part"),
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {}, "source", "knows 3 classes, the data has 2"),
        ({"id2label": {"0": "dire", "1": "fine"}}, {}, "source", "class 0 is 'bad' in the data and 'dire'"),
        ({"id2label": None, "num_labels": 7}, {}, "source", "knows 7 classes, the data has 2"),
        ({"max_position_embeddings": 12}, {}, "source", "make the data set with max_length 12"),
        ({"problem_type": "multi_label_classification"}, {}, "source", "gives any number of labels a text"),
        ({}, {"classes": {"bad": 5}}, "source.classes.bad", "none of the teacher's outputs"),
    ],
)
def test_a_teacher_of_other_texts_is_refused(
    refused: Refused, send: Send, texts: Json, config: Json, changes: Json, field: str, part: str
) -> None:
    body = {**source(send(folder(**config)), **changes), "data": texts}
    refused("POST", "/v1/teachers", status=422, code="invalid_teacher", field=field, part=part, json=body)


def test_what_was_unpacked_goes_with_the_upload_that_its_teacher_keeps(client: TestClient, send: Send) -> None:
    upload = send(folder(num_labels=2))
    teacher = client.post("/v1/teachers", json=source(upload)).json()["id"]
    files = client.app.state.services.files  # type: ignore[attr-defined]
    unpack_archive(files.upload(upload), files.unpacked(upload))
    needed = client.delete(f"/v1/uploads/{upload}")
    assert (needed.status_code, teacher in needed.json()["detail"]) == (409, True)
    assert (files.unpacked(upload) / "model.safetensors").read_bytes() == WEIGHTS
    assert client.delete(f"/v1/teachers/{teacher}").status_code == 204
    assert client.delete(f"/v1/uploads/{upload}").status_code == 204
    assert not files.unpacked(upload).parent.exists()


def test_an_encoder_without_a_classifier_is_left_for_its_check(client: TestClient, send: Send, texts: Json) -> None:
    content = folder(id2label=None, architectures=["BertModel"])
    found = client.post("/v1/teachers", json={**source(send(content)), "data": texts}).json()
    assert "num_classes" not in found["facts"]


def test_texts_and_images_are_not_mixed(refused: Refused, send: Send, texts: Json, dataset: str) -> None:
    images, digits = {"kind": "dataset", "id": dataset}, {"kind": "digits"}
    expected = {"status": 422, "code": "invalid_teacher", "field": "source"}
    part = "the teacher was trained on texts, the data are images"
    for data in (images, digits):
        refused("POST", "/v1/teachers", **expected, part=part, json={**source(send(folder())), "data": data})
    of_images = {"kind": "upload", "upload": send(WEIGHTS), "architecture": "resnet18", "num_classes": 2, "in_chans": 1}
    part = "the teacher was trained on images, the data are texts"
    refused("POST", "/v1/teachers", **expected, part=part, json={"source": of_images, "data": texts})
    stock = {"kind": "timm", "name": "resnet18"}
    part = "resnet18 looks at images, the data are texts"
    refused("POST", "/v1/teachers", **expected, part=part, json={"source": stock, "data": texts})
    sized = source(send(folder()), input_size=224)
    expected |= {"code": "invalid_request", "field": "source.input_size"}
    refused("POST", "/v1/teachers", **expected, part="texts have no pixels", json={**sized, "data": texts})


@pytest.fixture(scope="module")
def teacher(client: TestClient, send: Send) -> Json:
    """A teacher of texts that nobody has checked yet."""
    return {"kind": "teacher", "id": client.post("/v1/teachers", json=source(send(folder()))).json()["id"]}


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"data": {"kind": "digits"}}, "teacher.id", "trained on texts, the data are images"),
        ({"teacher": {"kind": "timm", "name": "resnet18"}}, "teacher", "resnet18 looks at images"),
        ({"search": {"space": "resnet_cifar"}}, "search.space", "text"),
        ({"distill": {"method": "fitnet"}}, "distill.method", "grid"),
        ({"budget": {"params": 5_000}}, "budget", "budget has params"),
    ],
)
def test_a_job_that_mixes_texts_with_what_is_of_images_is_refused(
    refused: Refused, texts: Json, teacher: Json, changes: Json, field: str, part: str
) -> None:
    body = request(**{"data": texts, "teacher": teacher, **changes})
    code = {"teacher": "invalid_teacher", "budget": "impossible_budget"}.get(field.split(".")[0], "invalid_request")
    refused("POST", "/v1/jobs", status=422, code=code, field=field, part=part, json=body)


def test_jobs_of_images_take_nothing_that_is_of_texts(refused: Refused) -> None:
    expected = {"status": 422, "code": "invalid_request"}
    body = request(search={"space": "bert"})
    refused("POST", "/v1/jobs", **expected, field="search.space", part="image", json=body)
    body = request(distill={"method": "minilm"})
    refused("POST", "/v1/jobs", **expected, field="distill.method", part="attention", json=body)


def test_a_job_of_texts_is_planned_in_the_teachers_vocabulary(client: TestClient, texts: Json, teacher: Json) -> None:
    body = request(data=texts, teacher=teacher, budget={"params": 500_000}, search={"space": "bert"})
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    services = client.app.state.services  # type: ignore[attr-defined]
    with services.sessions.begin() as session:  # of 100,000 tokens, the embeddings alone are more
        row = session.get_one(TeacherRow, teacher["id"])
        row.facts = {**row.facts, "vocab_size": 100_000}
    answer = client.post("/v1/jobs", json=body).json()
    assert (answer["code"], answer["field"]) == ("impossible_budget", "budget"), answer
