"""Whole jobs on images of which few have labels: a folder with unlabelled/, or `data.shots`; in memory or as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import archsearch
from archsearch.data import Dataset
from archsearch.data.balanced import drawn_rows
from archsearch.data.task import unknown
from archsearch.distill.together import train_together
from archsearch.distill.train import train
from archsearch.domains.images import streamed
from archsearch.errors import InvalidRequest
from archsearch.request import SearchSpec
from archsearch.search.bench import prepare
from archsearch.teachers import Teacher
from tests.distill.test_unlabelled import partly, spec, student

STUDENT = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 8, "width2": 16, "width3": 16}


@pytest.fixture(scope="module")
def folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNG files: 160 with labels, 160 in unlabelled/, and what is selected and tested on."""
    root = tmp_path_factory.mktemp("digits")
    for split, first, last in (("train", 0, 160), ("unlabelled", 160, 320), ("selection", 0, 120), ("test", 0, 120)):
        found = digits.train if split == "unlabelled" else getattr(digits, split)
        for row in range(first, last):
            within = split if split == "unlabelled" else f"{split}/{found.y_N[row]}"
            path = root / within / f"{row:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(found.x_NHWC[row, :, :, 0]).save(path)
    return root


def request(teacher: Path, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "kind": "distill",
        "teacher": {"kind": "local", "path": str(teacher)},
        "data": data,
        "student": {"space": "resnet_cifar", "architecture": STUDENT},
        "distill": {"method": "kd", "epochs": 2, "batch_size": 32, "precision": "fp32"},
        **changes,
    }


def quietly(body: dict[str, Any], out: Path) -> Any:
    return archsearch.run(body, out, listener=lambda _: None)


@pytest.mark.slow
def test_a_job_learns_from_unlabelled_images_in_memory_and_as_files(
    folder: Path, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    body = request(teacher_folder, {"kind": "image_folder", "path": str(folder)})
    wanted = quietly(body, tmp_path / "memory")
    assert wanted["data"]["images"] == {"train": 160, "selection": 120, "test": 120, "unlabelled": 160}
    assert wanted["student"]["recipe"]["steps"] == 320 // 32 * 2
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    quietly(body, tmp_path / "files")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("memory", "files")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_search_and_a_baseline_with_a_few_shots(teacher_folder: Path, tmp_path: Path) -> None:
    body = request(
        teacher_folder,
        {"kind": "digits", "shots": 2},
        kind="search_and_distill",
        student=None,
        budget={"params_ratio": 0.5},
        search={"space": "resnet_cifar", "candidates": 2, "batch_size": 32},
        distill={"epochs": 1, "batch_size": 32, "baseline": True},
    )
    found = quietly(body, tmp_path / "out")
    assert found["data"]["images"]["train"] == 20
    assert found["data"]["images"]["unlabelled"] == 1149
    assert "few_shots" in [warning["code"] for warning in found["warnings"]]
    assert found["student"]["recipe"]["steps"] == 1169 // 32


def test_a_share_of_labels_is_refused_before_anything_is_spent(teacher_folder: Path, tmp_path: Path) -> None:
    body = request(teacher_folder, {"kind": "digits"}, distill={"labelled_share": 0.5, "epochs": 1})
    with pytest.raises(InvalidRequest, match="every training example has its label") as caught:
        quietly(body, tmp_path / "out")
    assert caught.value.field == "distill.labelled_share"


def test_a_search_fills_its_batch_with_unlabelled_images(few_digits: Dataset, teacher: Teacher) -> None:
    data = partly(few_digits, 12)
    bench = prepare(SearchSpec(batch_size=32), teacher, data)
    top = bench.rungs[-1]
    assert len(top.y_B) == len(top.x) == 32
    rows, others = drawn_rows(data, 32, 0)
    assert (len(rows), len(others)) == (12, 20)
    assert data.unlabelled is not None
    with torch.no_grad():
        answered = teacher.logits(data.unlabelled.examples(others)).argmax(1)
    assert top.y_B.tolist() == [*data.train.y_N[rows].tolist(), *answered.tolist()]
    smaller = drawn_rows(data, 16, 0)
    assert set(smaller[1]) <= set(others)
    assert np.array_equal(drawn_rows(few_digits, 32, 0)[0], prepare_rows(few_digits))


def prepare_rows(data: Dataset) -> Any:
    from archsearch.data.balanced import balanced_rows

    return balanced_rows(data.train.y_N, 32, 0)


@pytest.mark.slow
def test_two_processes_learn_from_unlabelled_images_as_one_does(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    """The stored data keep them; a batch's two halves see as many labels, and batch norm its half, as in one process
    that computes a half at a time."""
    data = replace(partly(few_digits), sha256="0" * 64)
    recipe = spec(batch_size=64, epochs=1, lr=0.01, device="cpu")
    one, two = student(data), student(data)
    *_, alone = train(one, data, recipe.model_copy(update={"micro_batch": 32}), teacher=teacher)
    *_, both = train_together(
        two,
        data,
        recipe.model_copy(update={"devices": 2}),
        teacher=teacher,
        optimizer="sgd",
        checkpoint_path=tmp_path / "checkpoint.safetensors",
        cache=tmp_path,
    )
    assert (alone.step, both.step) == (4, 4)
    assert both.terms["labels"] == pytest.approx(alone.terms["labels"], rel=1e-3)
    assert both.terms["kd"] == pytest.approx(alone.terms["kd"], rel=1e-3)
    for (name, first), second in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(second, first, rtol=1e-2, atol=2e-3, msg=name)
    assert data.unlabelled is not None
    assert data.unlabelled.y_N.tolist() == unknown(len(data.unlabelled)).tolist()
