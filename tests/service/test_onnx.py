"""ONNX files that mean harm, over HTTP: refused in the child that looks at them, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from onnx import helper

from tests.service.server import PATIENCE_S, Server, wait
from tests.zoos.onnx import test_refused
from tests.zoos.onnx.graphs import answering

pytestmark = pytest.mark.slow
SMALLEST = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 8, "width2": 8, "width3": 8}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # As much as torch and a few images take.
    found = Server(tmp_path_factory.mktemp("bounded") / "data", ARCHSEARCH_CHECK_MEMORY_BYTES=str(1_500_000_000))
    wait(lambda: found.worker_pid() is not None, lambda: "there is no worker")
    yield found
    assert found.stop() == 0
    assert "Traceback" not in found.log.read_text()


def _filling_memory(path: Path) -> Path:
    """Four gigabytes of ones, when the graph is loaded or first asked."""
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["images", "nothing"], ["x"]),
    ]
    return answering(path, nodes, initial={"many": np.int64([2**30])})


def _growing_with_the_batch(path: Path) -> Path:
    """A number for five images each in a row: 32,768 of eight images, a thousand million of 64."""
    nodes = [
        helper.make_node("Shape", ["images"], ["batch"], end=1),
        helper.make_node("Concat", ["batch"] * 5, ["many"], axis=0),
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["images", "nothing"], ["x"]),
    ]
    return answering(path, nodes)


def row(server: Server, id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get(f"/v1/teachers/{id}").json()
    return found


def test_files_that_mean_harm_are_refused(server: Server, tmp_path: Path) -> None:
    pid = server.worker_pid()
    made: dict[str, tuple[Callable[[Path], Path], str, str]] = {
        "memory": (_filling_memory, "too_much_memory", "check used more than 1.5 GB of memory and was stopped"),
        "control": (test_refused._with_control_flow, "invalid_teacher", "has control flow"),
        "inputs": (test_refused._of_two_inputs, "invalid_teacher", "takes 2 inputs"),
        "elsewhere": (test_refused._with_weights_elsewhere, "invalid_teacher", "lie in another file"),
    }
    ids = {}
    for name, (make, *_) in made.items():
        upload = server.client.upload(make(tmp_path / f"{name}.onnx"))["id"]
        body = {"source": {"kind": "onnx", "upload": upload}}
        ids[name] = server.http.post("/v1/teachers", json=body).json()["id"]
    for name, (_, code, says) in made.items():
        wait(lambda id=ids[name]: row(server, id)["status"] == "refused", lambda: server.log.read_text())  # type: ignore[misc]
        problem = row(server, ids[name])["error"]
        assert (problem["code"], says in problem["detail"]) == (code, True), problem
        assert str(server.folder) not in str(problem)
    assert server.worker_pid() == pid


def test_what_a_graph_takes_of_a_jobs_data_is_found_out_beside_the_worker(server: Server, tmp_path: Path) -> None:
    path = _growing_with_the_batch(tmp_path / "net.onnx")
    teacher = server.client.add_teacher({"kind": "onnx", "mean": [0.0]}, weights=path, wait_s=PATIENCE_S)
    assert teacher["status"] == "ready"
    pid = server.worker_pid()
    student = {"space": "resnet_cifar", "architecture": SMALLEST}
    asked = {"kind": "distill", "teacher": {"kind": "teacher", "id": teacher["id"]}, "data": {"kind": "digits"}}
    job = server.wait_for(server.submit({**asked, "student": student, "distill": {"epochs": 1}}), "failed")
    assert (job["error"]["code"], job["error"]["retryable"]) == ("too_much_memory", False), job["error"]
    assert "asking the ONNX teacher about the data used more than 1.5 GB" in job["error"]["detail"]
    assert server.worker_pid() == pid
