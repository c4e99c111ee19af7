"""What follows a student of texts in a shell: it is measured, asked, exported again."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import transformers

import archsearch
from archsearch import domains, export
from archsearch.cli import app
from archsearch.cli.outcome import after
from archsearch.data import Dataset
from archsearch.domains.text.spec import TextData
from archsearch.errors import DataError, InvalidRequest, TeacherError, UnknownName
from archsearch.request import LocalTeacher
from tests.domains.text_classification.test_domain import write_texts
from tests.test_export_hub import TOKEN, Hub, hub
from tests.zoos.transformers.encoders import NAMES, write_folder

__all__ = ["hub"]

# N texts, K classes

DOMAIN = domains.get("text_classification")


def invoke(*args: str) -> Any:
    return CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "texts.csv", 120)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("texts") / "teacher"
    write_folder(made, "bert", id2label=dict(enumerate(NAMES)), label2id={name: i for i, name in enumerate(NAMES)})
    return made


@pytest.fixture(scope="module")
def dataset(teacher: Path, data: Path) -> Dataset:
    table = domains.load(TextData(path=data, max_length=8, duplicates="warn"))
    return DOMAIN.encode(table, DOMAIN.load_teacher(LocalTeacher(path=teacher), None, table), None)


@pytest.fixture(scope="module")
def student(teacher: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's network as a student that reads eight tokens, with its ONNX file."""
    folder = tmp_path_factory.mktemp("student") / "student"
    asked = DOMAIN.load_teacher(LocalTeacher(path=teacher), None, dataset)
    DOMAIN.save(asked.model, dataset.task, folder, asked)
    export.make_formats(folder, dataset.task, dataset.selection, names=["onnx"])
    counts = {"train": len(dataset.train), "selection": len(dataset.selection), "test": len(dataset.test)}
    told = {"sha256": dataset.sha256, "classes": 3, "images": counts}
    manifest = {"data": told, "request": {"data": {"kind": "text", "path": "texts.csv"}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_its_folder_tells_the_task_it_was_made_for(student: Path, dataset: Dataset) -> None:
    assert export.load_task(student) == dataset.task
    assert export.domain_of(student) is DOMAIN
    assert archsearch.load_student(student).num_classes == 3
    # The library cuts texts where the training did.
    tokenizer = transformers.AutoTokenizer.from_pretrained(student)
    assert len(tokenizer(" ".join(["word9"] * 30), truncation=True)["input_ids"]) == 8


def test_a_folder_of_the_library_alone_tells_what_it_can(teacher: Path) -> None:
    task = export.load_task(teacher)
    assert (task.classes, task.class_names, task.max_length, task.pair) == (3, tuple(NAMES), 20, False)


def test_it_is_measured_on_the_texts_it_did_not_see(student: Path, teacher: Path, data: Path, dataset: Dataset) -> None:
    ran = invoke("evaluate", str(student), "-d", str(data), "-t", str(teacher), "-b", str(student), "--json")
    found = json.loads(ran.stdout)
    row = found["networks"]["student"]
    assert (found["split"], found["data_sha256"], row["images"]) == ("test", dataset.sha256, len(dataset.test))
    assert "only the" in ran.stderr
    assert "texts held out of it are measured" in ran.stderr
    assert "were cut after them, as in its training" in " ".join(ran.stderr.split())
    assert row["agreement"] == found["networks"]["no_teacher"]["agreement"] == 100, "here they are the teacher itself"
    assert {"top1_acc", "top1_low", "top1_high", "macro_f1", "mcc", "ece", "nll", "kl_to_teacher"} <= row.keys()
    assert row["top1_low"] < row["top1_acc"] < row["top1_high"]
    assert len(row["per_class"]) == 3
    assert len(row["bins"]) == 15


def test_the_tables_speak_of_texts(student: Path, data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "student"))
    told = invoke("evaluate", str(folder), "-d", str(data), "--split", "all", "-o", str(folder)).stdout
    assert "120 given texts" in told
    assert "Matthews" in told
    assert "macro-F1" in told
    assert "image" not in told
    card = (folder / "README.md").read_text()
    assert "On the 120 texts" in card
    assert (folder / "confusion.png").is_file()


def test_columns_are_those_it_learned_from_or_named(student: Path, data: Path, tmp_path: Path) -> None:
    rows = data.read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join(["words,mood", *rows[1:40]]))
    with pytest.raises(DataError, match="no column is called as a text"):
        invoke("evaluate", str(student), "-d", str(tmp_path / "other.csv"))
    settings = ("--set", "text_column=words", "--set", "label_column=mood")
    ran = invoke("evaluate", str(student), "-d", str(tmp_path / "other.csv"), *settings, "--json")
    assert json.loads(ran.stdout)["networks"]["student"]["images"] == 39
    folder = Path(shutil.copytree(student, tmp_path / "student"))
    learned = {"kind": "text", "path": "other.csv", "text_column": "words", "label_column": "mood"}
    (folder / "manifest.json").write_text(json.dumps({"data": {"sha256": "0"}, "request": {"data": learned}}))
    ran = invoke("evaluate", str(folder), "-d", str(tmp_path / "other.csv"), "--json")
    assert json.loads(ran.stdout)["networks"]["student"]["images"] == 39


def test_what_it_cannot_be_measured_on_or_beside_is_refused(
    student: Path, data: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    def refused(match: str, field: str, *args: str) -> None:
        with pytest.raises(InvalidRequest, match=match) as caught:
            invoke("evaluate", *args)
        assert caught.value.field == field

    refused("these are images, and the network was trained on texts", "--data", str(student), "-d", "digits")
    refused("these are texts, and the network was trained on images", "--data", str(teacher_folder), "-d", str(data))
    for flag in ("-t", "-b"):
        field = {"-t": "--teacher", "-b": "--baseline"}[flag]
        refused("was trained on images, the student on texts", field, str(student), "-d", str(data), flag,
                str(teacher_folder))  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(student, other)
    (other / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes() + b"\n")
    refused("another tokenizer than the student", "--baseline", str(student), "-d", str(data), "-b", str(other))


def test_it_is_asked_about_texts_as_it_was_taught(student: Path, dataset: Dataset) -> None:
    texts = ["word2 word9 word9", "word4", " ".join(["word3"] * 30)]
    found = archsearch.predict(student, texts, top=3)
    assert [one.example for one in found] == [(text,) for text in texts]
    assert [one.note is None for one in found] == [True, True, False]
    assert "longer than 8 tokens" in str(found[2].note)
    again = archsearch.predict(student, texts, top=3, form="torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(student)
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(student).eval()
    with torch.inference_mode():
        logits_NK = stock(**tokenizer(texts, return_tensors="pt", padding=True, truncation=True)).logits
    for one, other, logits_K in zip(found, again, logits_NK, strict=True):
        chances = dict(one.names)
        assert chances == pytest.approx(dict(other.names), abs=1e-4)
        expected_K = logits_K.softmax(0).numpy()
        np.testing.assert_allclose([chances[stock.config.id2label[k]] for k in range(3)], expected_K, atol=1e-4)
        assert sum(chances.values()) == pytest.approx(1)


def test_a_shell_names_sentences_and_the_rows_of_files(student: Path, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("id,text\n1,word2 word9\n2,\n3,word4\n")
    with gzip.open(tmp_path / "lines.txt.gz", "wt") as file:
        file.write("word2\n\nword3 word9\n")
    ran = CliRunner().invoke(
        app, ["predict", str(student), "word2 word9", str(tmp_path / "some.csv"), str(tmp_path / "lines.txt.gz"),
              "--json"], standalone_mode=False,
    )  # fmt: skip
    assert isinstance(ran.exception, DataError)
    assert "1 of 6 texts could not be read" in str(ran.exception)
    rows = json.loads(ran.stdout)
    assert [row["file"].rpartition("/")[2] for row in rows] == [
        "", "some.csv:2", "some.csv:3", "some.csv:4", "lines.txt.gz:1", "lines.txt.gz:3",
    ]  # fmt: skip
    assert rows[2]["error"] == "it is empty"
    assert rows[0]["names"] == rows[1]["names"]
    assert rows[0]["example"] == ["word2 word9"]
    told = invoke("predict", str(student), "word2  word9", "--top", "1").stdout
    assert told.startswith("word2 word9: ")
    assert told.count("%") == 1


def test_what_it_cannot_be_asked_is_refused(student: Path, tmp_path: Path) -> None:
    def refused(match: str, field: str, *given: str, **options: Any) -> None:
        with pytest.raises((InvalidRequest, UnknownName), match=match) as caught:
            archsearch.predict(student, given, **options)
        assert caught.value.field == field

    refused("there is no file reviews.csv", "examples", "reviews.csv")
    (tmp_path / "photo.jpg").write_bytes(b"")
    refused("no csv, tsv, jsonl or txt", "examples", str(tmp_path / "photo.jpg"))
    (tmp_path / "a.csv").write_text("one,two\na,b\n")
    refused("no column is called as a text usually is", "columns", str(tmp_path / "a.csv"))
    refused("as many columns", "columns", str(tmp_path / "a.csv"), columns=("one", "two"))
    refused("unknown form 'pt2'", "form", "word2", form="pt2")
    refused("has no student.int8.onnx; `archsearch export", "form", "word2", form="int8")
    (found,) = archsearch.predict(student, [str(tmp_path / "a.csv")], columns=["two"])
    assert found.example == ("b",)


def test_pairs_are_given_two_by_two(student: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "pairs"))
    said = json.loads((folder / "preprocessing.json").read_text())
    (folder / "preprocessing.json").write_text(json.dumps({**said, "pair": True, "max_length": 12}))
    (found,) = archsearch.predict(folder, ["word2", "word9"], form="torch")
    assert found.example == ("word2", "word9")
    with pytest.raises(InvalidRequest, match="give two of each"):
        archsearch.predict(folder, "word2")
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2\nword2,word9\n")
    (again,) = archsearch.predict(folder, [tmp_path / "pairs.csv"], form="torch")
    assert again.names == found.names


@pytest.mark.slow
def test_its_formats_are_made_again(
    student: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "shipped"
    told = invoke("export", str(student), "--data", str(data), "--out", str(out), "--format", "onnx,int8").stdout
    assert "student.int8" in told
    report = json.loads((out / "report.json").read_text())
    assert set(report["formats"]) == {"safetensors", "onnx", "int8"}
    assert report["formats"]["onnx"]["max_abs_diff"] < 1e-4
    assert report["latency"]["how"].startswith("median and quartiles of one text of ")
    assert (out / "tokenizer.json").is_file()
    assert archsearch.predict(out, "word2", form="int8")[0].names
    assert not [record for record in caplog.records if record.name == "root"], "the quantiser's advice is nobody's"
    assert "image" not in (out / "README.md").read_text()
    with pytest.raises(UnknownName, match="unknown format 'pt2'"):
        invoke("export", str(out), "--format", "pt2")


def test_what_comes_next_is_a_sentence(student: Path, teacher_folder: Path) -> None:
    result = {"student": {}}
    assert after(result, str(student)) == f'archsearch predict {student} "some text"'
    assert after(result, str(teacher_folder)) == f"archsearch predict {teacher_folder} photo.jpg"


def test_its_teacher_s_own_space_is_listed_at_a_length(student: Path) -> None:
    rows = json.loads(invoke("spaces", "--teacher", str(student), "--max-length", "16", "--json").stdout)
    assert [row["name"] for row in rows] == ["teacher", "bert"]
    own = sum(weight.numel() for weight in archsearch.load_student(student).parameters())
    assert rows[0]["largest"]["params"] == own
    told = invoke("spaces", "--max-length", "16", "--vocab-size", "40").stdout
    assert "Spaces for texts of 16 tokens, 10 classes" in told
    with pytest.raises(InvalidRequest, match="texts have no in_chans") as caught:
        invoke("spaces", "--domain", "text_classification", "--in-chans", "1")
    assert caught.value.field == "--in-chans"


def test_an_encoder_is_told_from_networks_that_timm_lacks(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="archsearch train-teacher --from"):
        invoke("convert", str(teacher), "--out", str(tmp_path / "out"))


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_it_is_pushed_with_all_that_loads_it(student: Path, hub: Hub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "student"))
    export.push(folder, "me/student", private=False, token=TOKEN, endpoint=hub.url)
    there = set(hub.repos["me/student"]["files"])
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessing.json",
    } <= there


def test_texts_with_many_labels_are_measured_and_named(student: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "student"))
    said = json.loads((folder / "preprocessing.json").read_text())
    (folder / "preprocessing.json").write_text(json.dumps({**said, "kind": "multilabel"}))
    (folder / "manifest.json").unlink()
    (tmp_path / "many.csv").write_text(
        "split,text,labels\n" + "\n".join(f"test,word{2 + i},{NAMES[i % 3]}|{NAMES[(i + 1) % 3]}" for i in range(12))
    )
    ran = invoke("evaluate", str(folder), "-d", str(tmp_path / "many.csv"), "--json")
    row = json.loads(ran.stdout)["networks"]["student"]
    assert row["images"] == 12
    assert 0 < row["map"] <= 100
    (found,) = archsearch.predict(folder, "word2", threshold=0.0, form="torch")
    assert {name for name, _ in found.names} == set(NAMES)
    assert archsearch.predict(folder, "word2", threshold=1.0, form="torch")[0].names == ()
