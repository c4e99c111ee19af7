"""Texts over HTTP: a table and a teacher's folder are uploaded, and a student comes back that transformers loads."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import torch
import transformers

import archsearch
from archsearch.cli.inputs import send_local_parts
from archsearch.request import RegisteredTeacher, parse_request
from archsearch.zoos.transformers.folder import TOKENIZER_FILES
from tests.domains.text_classification.test_domain import write_texts
from tests.service.server import PATIENCE_S, Server, wait
from tests.zoos.transformers.encoders import write_folder

pytestmark = pytest.mark.slow
TRAINING = {"batch_size": 16, "lr": 3e-3}


@dataclass(frozen=True)
class Texts:
    """A table of texts, and a teacher that was trained on it."""

    table: Path
    teacher: Path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    folder = tmp_path_factory.mktemp("texts")
    write_folder(folder / "encoder", "bert")
    table = write_texts(folder / "texts.csv", 300)
    data = {"kind": "text", "path": str(table), "max_length": 12}
    archsearch.train_teacher(data, folder / "teacher", pretrained=folder / "encoder", spec={"epochs": 12, **TRAINING})
    return Texts(table, folder / "teacher")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("house") / "data")
    yield server
    code = server.stop()
    assert code == 0
    assert not {"Traceback", "Fatal"} & set(server.log.read_text().split())


@pytest.fixture(scope="module")
def named(server: Server, texts: Texts) -> dict[str, Any]:
    """The fields of a request that name the data and the teacher."""
    dataset = server.client.add_dataset(texts.table, "text", name="words", max_length=12)
    assert (dataset["task"]["domain"], dataset["splits"]["train"] > 100) == ("text_classification", True), dataset
    data = {"kind": "dataset", "id": dataset["id"]}
    teacher = server.client.add_teacher({}, weights=texts.teacher, name="tiny", data=data, wait_s=PATIENCE_S)
    facts = teacher["facts"]
    assert (teacher["status"], facts["domain"], facts["num_classes"]) == ("ready", "text_classification", 3), teacher
    assert (facts["max_length"], facts["vocab_size"], facts["measured_on"]) == (
        20, 40, {"max_length": 12, "vocab_size": 40},
    )  # fmt: skip
    assert facts["selection_acc"] > 90
    return {"data": data, "teacher": {"kind": "teacher", "id": teacher["id"]}}


def request(named: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **named,
        "budget": {"params_ratio": 0.9},
        "search": {"space": "teacher", "candidates": 4, "batch_size": 16},
        "distill": {"epochs": 12, **TRAINING},
        **changes,
    }


def test_a_job_of_texts_ends_in_a_student_that_transformers_loads(
    server: Server, named: dict[str, Any], tmp_path: Path
) -> None:
    job_id = server.submit(request(named, verify={"candidates": 2, "epochs": 2}))
    job = server.wait_for(job_id, "succeeded")
    student = job["result"]["student"]
    assert {event["data"]["phase"] for event in server.events(job_id) if event["type"] == "phase"} == {
        "validating", "searching", "verifying", "distilling", "exporting",
    }  # fmt: skip
    assert student["test_acc"] > 80
    files = {path.name for path in server.client.download(job_id, tmp_path / "student")}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "student.onnx"} <= files
    assert files & set(TOKENIZER_FILES) >= {"tokenizer.json", "tokenizer_config.json"}
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "student")
    assert sum(weight.numel() for weight in loaded.parameters()) == student["params"]
    # Each text's class is its first word's.
    with torch.inference_mode():
        logits_BK = loaded.eval()(**tokenizer(["word2 word30", "word4 word9"], return_tensors="pt")).logits
    assert [loaded.config.id2label[i] for i in logits_BK.argmax(1).tolist()] == ["bad", "good"]


def test_the_registered_space_is_searched_in_the_teachers_vocabulary(server: Server, named: dict[str, Any]) -> None:
    search = {"space": "bert", "candidates": 3, "batch_size": 16}
    job_id = server.submit(
        request(named, kind="search", budget={"params": 150_000, "may_exceed_teacher": True}, search=search)
    )
    server.wait_for(job_id, "succeeded")
    rows = server.client.candidates(job_id)
    assert [row["space"] for row in rows] == ["bert"] * 3
    smallest = 40 * 64  # its embeddings, of 64 features each
    assert all(smallest < row["params"] <= 150_000 for row in rows)


def test_what_no_student_of_the_teachers_costs_can_hold_is_refused_at_once(
    server: Server, named: dict[str, Any]
) -> None:
    body = request(named, budget={"macs_ratio": 0.5}, search={"space": "bert"})
    answer = server.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "impossible_budget"), answer.text


def test_what_a_request_names_on_this_machine_is_sent_and_named_by_id(
    server: Server, named: dict[str, Any], texts: Texts
) -> None:
    data = {"kind": "text", "path": str(texts.table), "max_length": 12}
    local = parse_request(request({"data": data, "teacher": {"kind": "local", "path": str(texts.teacher)}}))
    said: list[str] = []
    sent = send_local_parts(server.client, local, said.append)
    assert sent.data.model_dump(exclude_defaults=True, include={"kind", "id"}) | {"kind": "dataset"} == named["data"], (
        "the same texts, read the same way, are the same data set"
    )
    assert isinstance(sent.teacher, RegisteredTeacher)
    assert any("texts" in line for line in said)
    assert said[-1].endswith("% on the selection split")


def distilling(server: Server, job_id: str, epochs: int) -> bool:
    """Whether this many epochs are behind it, and so in a checkpoint."""
    done = [event["data"] for event in server.events(job_id) if event["type"] == "progress"]
    return bool(done) and done[-1]["phase"] == "distilling" and done[-1]["epoch"] >= epochs


def weights_of(server: Server, job_id: str) -> str:
    files = server.client.call("GET", f"/v1/jobs/{job_id}/artifacts")
    return str(next(file["sha256"] for file in files if file["name"] == "model.safetensors"))


def test_a_distillation_whose_worker_is_killed_ends_in_the_same_bits(server: Server, named: dict[str, Any]) -> None:
    student = {"space": "teacher", "architecture": {"layers": 1, "heads": 2, "ffn": 24}}
    body = request(named, kind="distill", student=student, budget={}, search={}, distill={"epochs": 40, **TRAINING})
    undisturbed = server.submit(body)
    server.wait_for(undisturbed, "succeeded")
    job_id = server.submit(body)
    wait(lambda: distilling(server, job_id, 10), lambda: str(server.client.job(job_id)))
    server.kill_worker()
    assert server.client.job(job_id)["status"] == "running", "killed too late to prove anything"
    job = server.wait_for(job_id, "succeeded")
    assert job["attempt"] == 2
    resumed = [event["data"] for event in server.events(job_id) if event["data"].get("resumed_at", 0) > 0]
    assert resumed
    assert weights_of(server, job_id) == weights_of(server, undisturbed)


def test_texts_without_labels_teach_beside_others_and_alone(
    server: Server, texts: Texts, named: dict[str, Any], tmp_path: Path
) -> None:
    lines = texts.table.read_text().splitlines()
    words = [line.rpartition(",")[0] for line in lines[1:]]
    some, none = tmp_path / "some.zip", tmp_path / "none.csv"
    with zipfile.ZipFile(some, "w") as archive:
        archive.writestr("train.csv", "\n".join(lines[:101]) + "\n")
        archive.writestr("unlabelled.txt", "\n".join(words[100:]) + "\n")
    none.write_text("\n".join(["text", *words]) + "\n")
    for path, judge in ((some, "acc"), (none, "agreement")):
        row = server.client.add_dataset(path, "text", name=path.stem, max_length=12, duplicates="warn")
        assert ("unlabelled" in row["splits"]) == (path is some)
        assert row["task"]["truth"] == ("labels" if path is some else "teacher")
        asked = request(
            named, data={"kind": "dataset", "id": row["id"]}, distill={"epochs": 1, **TRAINING}, verify=None
        )
        job = server.wait_for(server.submit(asked), "succeeded")
        result = job["result"]
        assert result["judged_by"]["key"] == judge
        assert f"test_{judge}" in result["student"]
        assert result["data"]["classes"] == 3
    assert "no text has a label" in result["warnings"][0]["detail"]
    server.client.download(job["id"], tmp_path / "student")
    card, evaluation = ((tmp_path / "student" / name).read_text() for name in ("README.md", "evaluation.json"))
    assert "judged by agreement with the teacher" in card
    assert "accura" not in card.lower()
    row = json.loads(evaluation)["networks"]["student"]
    assert not {"top1_acc", "macro_f1", "mcc", "nll", "ece"} & row.keys()
    problem = server.http.post("/v1/jobs", json={**asked, "distill": {"labels": 1}}).json()
    assert (problem["field"], problem["status"]) == ("distill.labels", 422)
