"""A training on files that are decoded as they are shown ends with the weights of one on the same images in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import archsearch
from archsearch.data import Dataset
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch
from archsearch.domains import of
from archsearch.domains.image_classification import ahead, loaders
from archsearch.domains.images import load_image_folder, streamed
from archsearch.domains.images.file_split import FileSplit
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher


@pytest.fixture(scope="module")
def folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNG files, which keep their pixels, a folder a class within a folder a split."""
    root = tmp_path_factory.mktemp("digits")
    for split, count in (("train", 640), ("selection", 120), ("test", 120)):
        found = getattr(digits, split)
        for row, label in enumerate(found.y_N[:count].tolist()):
            path = root / split / str(label) / f"{row:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(found.x_NHWC[row, :, :, 0]).save(path)
    return root


def batches(dataset: Dataset, augment: Any, first: int, group: Group | None = None) -> list[Batch]:
    spec = DistillSpec(epochs=2, batch_size=64, augment=augment)
    return list(of(dataset.task).loader(dataset, spec, "cpu", group or Group()).epoch(1, first))


@pytest.mark.parametrize("augment", ["crop_flip", "none", "resized_crop"])
def test_batches_are_the_same_with_any_number_of_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, augment: str, subtests: pytest.Subtests
) -> None:
    wanted = load_image_folder(folder)
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    found = load_image_folder(folder)
    for workers, first, shared in ((0, 9, True), (1, 7, True), (2, 8, False)):
        with subtests.test(workers=workers, first=first, shared=shared):
            monkeypatch.setattr(loaders, "workers_for", lambda *_, count=workers: count)
            monkeypatch.setattr(ahead, "_has_room", lambda _, there=shared: there)
            ours, theirs = batches(found, augment, first), batches(wanted, augment, first)
            assert len(ours) == len(theirs) == 10 - first
            for own, other in zip(ours, theirs, strict=True):
                assert torch.equal(own.x, other.x)
                assert torch.equal(own.y, other.y)
                assert np.array_equal(own.row_B, other.row_B)
                assert own.x.is_contiguous(memory_format=torch.channels_last) or augment == "none"


def test_processes_share_a_batch_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    found = load_image_folder(folder)
    whole = batches(found, "crop_flip", 9)[0]
    parts = [batches(found, "crop_flip", 9, Group(rank, 2))[0] for rank in range(2)]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)


def request(folder: Path, teacher: Path, **distill: Any) -> dict[str, Any]:
    return {
        "teacher": {"kind": "local", "path": str(teacher)},
        "data": {"kind": "image_folder", "path": str(folder)},
        "budget": {"params_ratio": 0.4},
        "search": {"space": "resnet_cifar", "candidates": 3, "batch_size": 16},
        "distill": {"epochs": 2, "batch_size": 64, "augment": "crop_flip", **distill},
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archsearch" / "evidence"


@pytest.mark.slow
def test_a_whole_job_is_the_same_and_never_holds_a_split(
    folder: Path, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    wanted = archsearch.run(request(folder, teacher_folder), tmp_path / "memory", listener=lambda _: None)
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    asked: list[int] = []
    real = FileSplit.pixels

    def pixels(self: FileSplit, rows: Any) -> Any:
        found = real(self, rows)
        asked.append(len(found))
        return found

    monkeypatch.setattr(FileSplit, "pixels", pixels)
    found = archsearch.run(request(folder, teacher_folder), tmp_path / "files", listener=lambda _: None)
    assert 0 < max(asked) <= 256, "the training split has 640 images"
    assert found["data"]["sha256"] != wanted["data"]["sha256"]
    assert found["student"]["test_acc"] == wanted["student"]["test_acc"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("memory", "files")]
    assert weights[0] == weights[1]
    (kept,) = cache.glob("images-*")
    before = (kept / "digest_ND.npy").stat().st_mtime_ns
    measured = evaluated(tmp_path / "files", folder)
    assert (kept / "digest_ND.npy").stat().st_mtime_ns == before
    assert measured["images"] == 120


def evaluated(student: Path, folder: Path) -> dict[str, Any]:
    from archsearch.domains.image_classification.domain import DOMAIN
    from archsearch.request import ImageFolderData

    known = DOMAIN.open_task(student)
    found = DOMAIN.load_measured(ImageFolderData(path=folder), known, "test", student, None, None)
    assert isinstance(found.dataset.test, FileSplit)
    return {"images": len(found.dataset.test)}


# Dies of itself after so many training steps of its own; trains to the end where that is 0.
RUN = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from archsearch.distill import step, train
from archsearch.domains.images import streamed
import archsearch

streamed.MOST_BYTES = 0
body, out, at, steps, take = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 0, train.take_step

def counted(*args):
    global steps
    steps += 1
    if steps == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(*args)

train.take_step = counted
train._CHECKPOINT_EVERY_S = train.train.__kwdefaults__["checkpoint_every_s"] = 0.0
seen = []
archsearch.run(body, out, listener=lambda report: seen.append(report.get("resumed_at") or 0))
print(max(seen))
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_it_goes_on_to_the_same_bits(
    folder: Path, teacher_folder: Path, tmp_path: Path, cache: Path
) -> None:
    body = json.dumps(request(folder, teacher_folder, augment="resized_crop"))

    def attempt(name: str, at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", RUN, body, str(tmp_path / name), str(at)]
        return subprocess.run(command, text=True, capture_output=True, env={**os.environ})

    whole = attempt("whole", 0)
    assert whole.returncode == 0, whole.stderr
    for at in np.random.default_rng().integers(2, 9, 1).tolist():
        killed = attempt("killed", at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = attempt("killed", 0)
    assert last.returncode == 0, last.stderr
    assert int(last.stdout) > 0, "it went on from a checkpoint"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_processes_train_together_on_files_that_stay_where_they_are(
    folder: Path, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsearch.distill.together import train_together
    from archsearch.spaces import spaces

    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    found, space = load_image_folder(folder), spaces.get("resnet_cifar")
    spec = DistillSpec(epochs=1, batch_size=64, devices=2, device="cpu", augment="crop_flip")
    path = tmp_path / "checkpoint.safetensors"
    student = space.build(space.smallest(found.task), found.task)
    reports = list(
        train_together(student, found, spec, teacher=teacher, optimizer="sgd", checkpoint_path=path, cache=None)
    )
    assert reports[-1].step == 10
    (stored,) = tmp_path.glob("data-*")
    assert not (stored / "images.bin").exists()
