from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import transformers

from archsearch import domains, export
from archsearch.data import Dataset
from archsearch.data.shape import Shape
from archsearch.distill.group import Group
from archsearch.domains.text.spec import TextData
from archsearch.errors import TeacherError
from archsearch.evaluate import likeness
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.teachers import check_teacher
from tests.zoos.transformers.encoders import NAMES, write_folder

# N texts, B batch, T tokens, K classes

DOMAIN = domains.get("text_classification")


def write_texts(path: Path, count: int = 90, names: tuple[str, ...] = NAMES) -> Path:
    """Texts of two to nine words, whose label is their first word's number."""
    rng = np.random.RandomState(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for i in range(count):
            label = i % len(names)
            others = rng.randint(8, 40, rng.randint(1, 9))
            rows.writerow([" ".join(f"word{word}" for word in (2 + label, *others)), names[label]])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("texts") / "teacher"
    write_folder(made, "bert", id2label=dict(enumerate(NAMES)), label2id={name: i for i, name in enumerate(NAMES)})
    return made


@pytest.fixture(scope="module")
def opened(folder: Path) -> tuple[Any, Dataset]:
    """A teacher and the data as it reads them."""
    table = domains.load(TextData(path=write_texts(folder.parent / "texts.csv"), max_length=12, duplicates="warn"))
    teacher = DOMAIN.load_teacher(LocalTeacher(path=folder), None, table)
    return teacher, DOMAIN.encode(table, teacher, None)


def test_a_table_names_its_domain_and_becomes_the_data_of_a_teacher(opened: tuple[Any, Dataset]) -> None:
    teacher, dataset = opened
    task = dataset.task
    assert (task.domain, task.classes, task.vocab_size) == ("text_classification", 3, 40)
    assert domains.of(task) is DOMAIN
    assert DOMAIN.shape(task) == teacher.shape(task) == Shape((2, 12), 40)
    x_N2T = dataset.train.examples(slice(4))
    assert teacher.logits(x_N2T).shape == (4, 3)


def test_outputs_are_put_in_the_order_of_the_datas_classes(opened: tuple[Any, Dataset], folder: Path) -> None:
    teacher, dataset = opened
    assert set(dataset.task.class_names) == set(NAMES)
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    x_N2T = dataset.selection.examples(slice(5))
    with torch.inference_mode():
        theirs_NK = stock(
            input_ids=x_N2T[:, 0], attention_mask=x_N2T[:, 1] >= 0, token_type_ids=x_N2T[:, 1].clamp(min=0)
        ).logits
        ours_NK = teacher.logits(x_N2T)
    order = [NAMES.index(name) for name in dataset.task.class_names]
    assert torch.equal(ours_NK, theirs_NK[:, order])


def test_an_untrained_teacher_is_told_to_know_nothing(opened: tuple[Any, Dataset]) -> None:
    teacher, dataset = opened
    with pytest.raises(TeacherError, match="guessing reaches"):
        check_teacher(teacher, dataset)


def test_a_teacher_that_reads_less_than_the_data_has_is_refused(opened: tuple[Any, Dataset], folder: Path) -> None:
    table = domains.load(TextData(path=folder.parent / "texts.csv", max_length=64, duplicates="warn"))
    teacher = DOMAIN.load_teacher(LocalTeacher(path=folder), None, table)
    with pytest.raises(TeacherError, match=r"takes 20 tokens.*max_length to 20"):
        teacher.require(DOMAIN.encode(table, teacher, None).task)


def test_batches_are_the_same_from_any_step_on_and_shared_by_a_group(opened: tuple[Any, Dataset]) -> None:
    _, dataset = opened
    spec = DistillSpec(epochs=2, batch_size=8, seed=3)
    whole = list(DOMAIN.loader(dataset, spec, "cpu", Group()).epoch(1, 0))
    later = list(DOMAIN.loader(dataset, spec, "cpu", Group()).epoch(1, 2))
    assert len(whole) == len(dataset.train) // 8
    for one, other in zip(whole[2:], later, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.y, other.y)
    halves = [list(DOMAIN.loader(dataset, spec, "cpu", Group(rank, 2)).epoch(1, 0)) for rank in (0, 1)]
    rows = [np.concatenate([first.row_B, second.row_B]) for first, second in zip(*halves, strict=True)]
    assert all(np.array_equal(found, batch.row_B) for found, batch in zip(rows, whole, strict=True))
    assert all(batch.x.shape[2] == dataset.train.lengths_N[batch.row_B].max() for batch in whole)


def test_coarse_features_count_tokens_whatever_their_order(opened: tuple[Any, Dataset]) -> None:
    _, dataset = opened
    found_ND = DOMAIN.coarse(dataset.test, 16)
    assert found_ND.shape == (len(dataset.test), 16)
    np.testing.assert_allclose(np.square(found_ND).sum(1), dataset.test.lengths_N)


def test_a_student_comes_as_the_library_loads_it_and_as_onnx(opened: tuple[Any, Dataset], tmp_path: Path) -> None:
    teacher, dataset = opened
    task, student = dataset.task, DOMAIN.open(teacher.folder)
    DOMAIN.save(student, task, tmp_path, teacher)
    made = export.make_formats(tmp_path, task, dataset.selection)
    assert made.missing == {}
    by_name = {one.name: one for one in made.made}
    assert set(by_name) == {"safetensors", "onnx", "int8"}
    assert by_name["onnx"].parity.max_abs_diff < 1e-4
    # Another batch and another length than those it was written with.
    x_N2T = dataset.test.examples(slice(7))
    again_NK = by_name["onnx"].answer(x_N2T.numpy())
    with torch.inference_mode():
        assert np.abs(again_NK - student(x_N2T).numpy()).max() < 1e-4
    assert likeness(again_NK, by_name["int8"].answer(x_N2T.numpy())).agreement >= 50
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    inputs = tokenizer(["word2 word9", "word3"], return_tensors="pt", padding=True)
    with torch.inference_mode():
        named = [stock.config.id2label[i] for i in stock(**inputs).logits.argmax(1).tolist()]
    assert set(named) <= set(NAMES)


def test_the_card_speaks_of_texts_and_of_the_library_that_loads_them(
    opened: tuple[Any, Dataset], tmp_path: Path
) -> None:
    teacher, dataset = opened
    DOMAIN.save(DOMAIN.open(teacher.folder), dataset.task, tmp_path, teacher)
    card = export.write_card(tmp_path, {}).read_text()
    assert "AutoModelForSequenceClassification" in card
    assert "pipeline_tag: text-classification" in card
    assert "library_name: transformers" in card
    assert "timm" not in card
    assert "image" not in card


def test_what_is_stored_is_opened_again(opened: tuple[Any, Dataset], tmp_path: Path) -> None:
    _, dataset = opened
    domains.save_dataset(dataset, tmp_path / "tokens")
    again = domains.open_dataset(tmp_path / "tokens")
    assert (again.task, again.sha256) == (dataset.task, dataset.sha256)
    assert torch.equal(again.test.examples(slice(3)), dataset.test.examples(slice(3)))
    body = json.loads(json.dumps({"domain": dataset.task.domain, **vars(dataset.task)}))
    assert domains.read_task(body) == dataset.task
