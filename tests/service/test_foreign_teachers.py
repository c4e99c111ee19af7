"""Teachers as other people have them, from POST to a student over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from archsearch.cli import app
from archsearch.cli.inputs import send_local_parts
from archsearch.data import Dataset
from archsearch.errors import ServiceError
from archsearch.request import parse_request
from archsearch.teachers import ImageTeacher, describe_folder
from tests.service.conftest import House
from tests.service.server import PATIENCE_S
from tests.teachers.folders import bare_folder

pytestmark = pytest.mark.slow
# One teacher goes through a search; of the others a student by name learns.
STUDENT = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 16, "width2": 16, "width3": 24}
SEARCH = {"space": "resnet_cifar", "candidates": 4, "batch_size": 32}


def student_of(house: House, source: dict[str, Any], weights: Path, **changes: Any) -> dict[str, Any]:
    """Register a teacher, distil a small student from it, and give back the job's result."""
    row = house.server.client.add_teacher(source, weights=weights, data=house.named["data"], wait_s=PATIENCE_S)
    assert row["status"] == "ready", row
    student = {"space": "resnet_cifar", "architecture": STUDENT}
    asked = house.request(teacher={"kind": "teacher", "id": row["id"]}, kind="distill", student=student, **changes)
    job_id = house.server.submit(asked)
    job = house.server.wait_for(job_id, "succeeded")
    result: dict[str, Any] = {**job["result"], "facts": row["facts"]}
    assert result["student"]["test_acc"] > 30
    return result


def test_a_pth_file_is_refused_with_the_lines_that_help_and_teaches_once_converted(
    house: House, teacher: ImageTeacher, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": teacher.model.state_dict(), "epoch": 3}, path)
    with pytest.raises(ServiceError) as caught:
        house.server.client.add_teacher({"architecture": "cifar_resnet", "num_classes": 10}, weights=path)
    told = caught.value.body["detail"]
    assert "torch.load('model.pth', weights_only=True)" in told
    assert "safetensors.torch.save_file(weights, 'model.safetensors')" in told
    assert "archsearch convert" in told
    pixels = ["--mean", str(teacher.mean[0]), "--std", str(teacher.std[0]), "--input-size", "8"]
    args = ["convert", str(path), "--timm", "cifar_resnet", "--out", str(tmp_path / "teacher"), *pixels]
    CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    folder = tmp_path / "teacher"
    result = student_of(house, describe_folder(folder), folder / "model.safetensors")
    assert result["teacher"]["test_acc"] > 80


def test_an_onnx_file_teaches(house: House, teacher: ImageTeacher, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    from tests.zoos.onnx.test_exported import exported

    path = exported(teacher.model, tmp_path / "network.onnx")
    shown = {"mean": list(map(float, teacher.mean)), "std": list(map(float, teacher.std))}
    # As the shell sends it.
    local = parse_request(house.request(teacher={"kind": "local", "path": str(path), **shown}, search=SEARCH))
    sent = send_local_parts(house.server.client, local, lambda _: None)
    row = house.server.http.get(f"/v1/teachers/{sent.teacher.id}").json()
    assert (row["source"]["kind"], row["source"]["mean"], row["facts"]["selection_acc"] > 80) == (
        "onnx",
        shown["mean"],
        True,
    )
    result = house.server.wait_for(house.server.submit(sent.model_dump(mode="json")), "succeeded")["result"]
    assert result["teacher"]["test_acc"] > 80
    assert result["student"]["test_acc"] > 30
    assert result["teacher"]["macs"] == row["facts"]["macs"] > 0
    assert result["student"]["params"] <= row["facts"]["params"] / 2
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(np.random.RandomState(0).bytes(100))
    with pytest.raises(ServiceError) as caught:
        house.server.client.add_teacher({"kind": "onnx"}, weights=broken)
    assert (caught.value.body["code"], caught.value.body["field"]) == ("invalid_teacher", "source.upload")


def test_a_bare_backbone_teaches_with_a_probe(house: House, teacher: ImageTeacher, tmp_path: Path) -> None:
    folder = bare_folder(teacher, tmp_path / "backbone")
    source = describe_folder(folder)
    with pytest.raises(ServiceError) as caught:
        house.server.client.add_teacher(source, weights=folder / "model.safetensors")
    assert (caught.value.body["field"], "head 'probe'" in caught.value.body["detail"]) == ("source.head", True)
    result = student_of(house, {**source, "head": "probe"}, folder / "model.safetensors")
    assert result["teacher"]["test_acc"] > 80
    assert result["facts"]["selection_acc"] > 80
    assert "num_classes" not in result["facts"]
    assert "teacher_probed" in [warning["code"] for warning in result["warnings"]]


def test_an_image_classifier_of_transformers_teaches(house: House, digits: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `text` is not installed")
    from tests.zoos.transformers.images import stock, write_images_folder

    network = stock("vit", hidden_size=32, id2label={k: str(k) for k in range(10)})
    taught(network, digits)
    folder = write_images_folder(tmp_path / "vit", network)
    result = student_of(house, {}, folder)
    assert (result["facts"]["class_names"], result["facts"]["num_classes"]) == ([str(k) for k in range(10)], 10)
    assert result["teacher"]["test_acc"] > 60


def taught(network: Any, digits: Dataset) -> None:
    """Train a network of transformers' a little, as its folder says it is shown pixels."""
    x_NCHW, y_N = (digits.train.images().float() / 255 - 0.25) / 0.5, digits.train.labels()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(6):
        for rows in torch.randperm(len(y_N)).split(64):
            loss = torch.nn.functional.cross_entropy(network.train()(pixel_values=x_NCHW[rows]).logits, y_N[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
