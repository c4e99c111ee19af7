"""What a job hands over: every form of its student, over HTTP, and each at work where nothing of ours is."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from archsearch import export
from archsearch.data import Dataset
from archsearch.request import parse_request
from archsearch.zoos.transformers.folder import TOKENIZER_FILES
from tests.service.conftest import House

# B batch, C channels, H W space, K classes

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow

# Refuses every package named in the first argument, wherever it is installed.
ONLY = """
import sys
refused = sys.argv[1].split(",")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Refuse())
import numpy
folder, images, answers = sys.argv[2:]
pixels = numpy.load(images)
"""
TIMM = """
import timm, torch
model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
with torch.inference_mode():
    numpy.save(answers, model((x - mean) / std).numpy())
"""
TORCH = """
import torch
model = torch.export.load(folder + "/student.pt2").module()
with torch.inference_mode():
    numpy.save(answers, model(torch.from_numpy(pixels)).numpy())
"""
RUNTIME = """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/NAME", providers=["CPUExecutionProvider"])
numpy.save(answers, session.run(None, {"images": pixels})[0])
"""

# Photos need no tokenizer, and one student alone no front.
OF_IMAGES = [name for name in export.PUBLIC if name not in (*TOKENIZER_FILES, export.FRONT, export.PICTURE)]


@dataclass(frozen=True)
class Shipped:
    """A finished job, its artifacts' rows and contents by name, and a folder they were downloaded to."""

    job: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    content: dict[str, bytes]
    folder: Path


@pytest.fixture(scope="module")
def shipped(house: House, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """A ViT, which plain timm builds, taught for a few epochs, with the same network without a teacher beside it."""
    architecture = {"patch": 1, "depth": 1, "heads": 1, "mlp_ratio": 2}
    request = house.request(
        kind="distill",
        name="shipped",
        student={"space": "vit", "architecture": architecture},
        distill={"epochs": 2, "batch_size": 64, "baseline": True},
        budget={},
        search={},
    )
    job = house.server.wait_for(house.server.submit(request), "succeeded")
    get = house.server.http.get
    rows = {row["name"]: row for row in get(f"/v1/jobs/{job['id']}/artifacts").json()}
    content = {name: get(f"/v1/artifacts/{row['id']}/content").content for name, row in rows.items()}
    folder = tmp_path_factory.mktemp("shipped") / "student"
    house.server.client.download(job["id"], folder)
    return Shipped(job, rows, content, folder)


@pytest.fixture(scope="module")
def images(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pixels of test images."""
    path = tmp_path_factory.mktemp("images") / "x.npy"
    np.save(path, digits.test.x_NHWC[:50])
    return path


def answers(code: str, folder: Path, images: Path, *refused: str) -> np.ndarray:
    """The logits B×K an interpreter without these packages finds."""
    path = images.with_name("answers.npy")
    command = [sys.executable, "-I", "-c", ONLY + code, ",".join(refused), str(folder), str(images), str(path)]
    ran = subprocess.run(command, cwd=images.parent, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return np.load(path)


def test_everything_is_there_with_its_kind(house: House, shipped: Shipped) -> None:
    assert set(shipped.rows) == {*OF_IMAGES, export.ARCHIVE}
    for name, row in shipped.rows.items():
        assert row["media_type"] == export.MEDIA_TYPES[name]
        assert row["size_bytes"] == len(shipped.content[name])
        assert row["sha256"] == hashlib.sha256(shipped.content[name]).hexdigest()
    card = house.server.http.get(f"/v1/artifacts/{shipped.rows['README.md']['id']}/content")
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert shipped.content["confusion.png"][:8] == shipped.content["calibration.png"][:8] == b"\x89PNG\r\n\x1a\n"


def test_the_zip_holds_all_of_it(shipped: Shipped) -> None:
    with zipfile.ZipFile(io.BytesIO(shipped.content["student.zip"])) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(f"student/{name}") for name in OF_IMAGES}
        assert len(archive.namelist()) == len(found)
    assert found == {name: content for name, content in shipped.content.items() if name != "student.zip"}


def test_the_student_is_the_same_in_timm_in_torch_and_in_onnx_runtime(shipped: Shipped, images: Path) -> None:
    """Acceptance: with timm and torch alone; with torch alone; with onnxruntime and numpy alone."""
    timm_BK = answers(TIMM, shipped.folder, images, "archsearch")
    torch_BK = answers(TORCH, shipped.folder, images, "archsearch", "timm")
    runtime = RUNTIME.replace("NAME", "student.onnx")
    runtime_BK = answers(runtime, shipped.folder, images, "archsearch", "timm", "torch", "torchvision", "onnx")
    assert np.abs(timm_BK).max() > 0.1
    np.testing.assert_allclose(torch_BK, timm_BK, atol=1e-4, rtol=0)
    np.testing.assert_allclose(runtime_BK, timm_BK, atol=1e-4, rtol=0)
    small = RUNTIME.replace("NAME", "student.int8.onnx")
    small_BK = answers(small, shipped.folder, images, "archsearch", "timm", "torch", "torchvision", "onnx")
    assert (small_BK.argmax(1) == timm_BK.argmax(1)).mean() > 0.9


def test_the_result_tells_formats_and_evaluation(shipped: Shipped) -> None:
    result = shipped.job["result"]
    student, teacher = result["student"], result["teacher"]
    assert set(student["formats"]) == {"safetensors", "onnx", "pt2", "int8"}
    for figures in student["formats"].values():
        assert figures["bytes"] > 0
        assert figures["latency_ms"] > 0
    for exact in ("onnx", "pt2"):
        assert student["formats"][exact]["test_acc"] == student["test_acc"]
        assert student["formats"][exact]["max_abs_diff"] < 1e-4
    assert list(student["evaluation"]) == ["student", "no_teacher", "teacher"]
    assert student["evaluation"]["student"]["top1_acc"] == student["test_acc"]
    assert student["evaluation"]["teacher"]["top1_acc"] == teacher["test_acc"]
    assert student["evaluation"]["no_teacher"]["top1_acc"] == student["baseline"]["test_acc"]
    report, evaluation = (json.loads(shipped.content[name]) for name in ("report.json", "evaluation.json"))
    assert report["formats"]["int8"]["test_acc"] == student["formats"]["int8"]["test_acc"]
    assert evaluation["networks"]["student"]["top1_acc"] == student["test_acc"]
    assert evaluation["data_sha256"] == result["data"]["sha256"]


def test_the_manifest_names_every_file_and_makes_the_student_again(shipped: Shipped) -> None:
    manifest = json.loads(shipped.content["manifest.json"])
    described = {name: (file["bytes"], file["sha256"]) for name, file in manifest["files"].items()}
    assert described == {
        name: (row["size_bytes"], row["sha256"])
        for name, row in shipped.rows.items()
        if name not in ("manifest.json", "student.zip")
    }
    request = parse_request(manifest["request"])
    assert (request.name, request.distill.epochs, request.student.space) == ("shipped", 2, "vit")
    assert manifest["seconds"].keys() == {"distill", "export"}
    assert manifest["machine"]["threads"] >= 1
    assert {"onnx", "onnxruntime", "timm", "torch"} <= manifest["versions"].keys()


def test_the_card_tells_what_was_measured(shipped: Shipped) -> None:
    text = shipped.content["README.md"].decode()
    student = shipped.job["result"]["student"]
    (top1,) = [r.metric_value for r in ModelCard(text).data.eval_results if r.metric_type == "accuracy"]
    assert top1 == pytest.approx(student["test_acc"], abs=1e-3)
    assert "the same network without a teacher" in text
    assert "import archsearch" not in text, "plain timm builds it"
    for figures in student["formats"].values():
        assert f"{figures['bytes']:,}" in text


def test_the_shell_takes_a_job_for_a_folder(house: House, shipped: Shipped, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "archsearch", "export", shipped.job["id"], "--format", "pt2", "--out", str(out)]
    done = subprocess.run(
        [*command, "--url", house.server.url, "--json"], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"]["formats"].keys() == {"safetensors", "onnx", "pt2", "int8"}
    assert (out / "student.int8.onnx").read_bytes() == shipped.content["student.int8.onnx"]
