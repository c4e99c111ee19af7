"""The whole way of a text: from an encoder's folder to a teacher, and from the teacher to a student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import transformers

import archsearch
from archsearch.evaluate import EVALUATION
from tests.domains.text_classification.test_domain import write_texts
from tests.zoos.transformers.encoders import write_folder


@pytest.mark.slow
def test_a_teacher_is_fine_tuned_and_its_student_found_distilled_and_loaded(tmp_path: Path) -> None:
    write_folder(tmp_path / "encoder", "bert")
    texts = {"kind": "text", "path": str(write_texts(tmp_path / "texts.csv", 300)), "max_length": 12}
    taught = archsearch.train_teacher(
        texts, tmp_path / "teacher", pretrained=tmp_path / "encoder", spec={"epochs": 12, "batch_size": 16, "lr": 3e-3}
    )
    assert taught["test_acc"] > 90
    result = archsearch.run(
        {
            "teacher": {"kind": "local", "path": str(tmp_path / "teacher")},
            "data": texts,
            "budget": {"params_ratio": 0.9},
            "search": {"space": "teacher", "candidates": 4},
            "distill": {"epochs": 12, "batch_size": 16, "lr": 3e-3},
        },
        tmp_path / "student",
    )
    student = result["student"]
    assert student["test_acc"] > 80
    assert set(student["formats"]) == {"safetensors", "onnx", "int8"}
    assert student["params"] <= 0.9 * result["teacher"]["params"]
    assert (tmp_path / "student" / EVALUATION).is_file()
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert sum(weight.numel() for weight in loaded.parameters()) == student["params"]
    # The manifest is a request that makes the student again.
    request = json.loads((tmp_path / "student" / "manifest.json").read_text())["request"]
    again = archsearch.run(request, tmp_path / "again")
    assert again["student"]["test_acc"] == student["test_acc"]
