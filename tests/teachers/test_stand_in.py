"""A teacher's answers where nobody gave labels: for meters, of its own classes, and doubted by how sure it is alone."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.metrics import AGREEMENT
from archsearch.data.task import unknown
from archsearch.data.unlabelled import no_labels
from archsearch.domains.image_classification.teacher import load
from archsearch.errors import ArchsearchError, InvalidRequest, TeacherError
from archsearch.request import LocalTeacher
from archsearch.teachers import ImageTeacher, check_teacher
from archsearch.teachers.facts import check_facts
from archsearch.teachers.stand_in import UNSURE, asked_of, stand_in


def blank(dataset: Any) -> Any:
    """The same as data of which no example has a label are read."""
    task = replace(dataset.task, classes=0, class_names=(), prevalence=(), truth="teacher")
    splits = {
        name: replace(split, y_N=unknown(len(split)))
        for name in ("train", "selection", "test")
        if (split := getattr(dataset, name)) is not None
    }
    sha256 = f"none{dataset.sha256[4:]}"
    return replace(dataset, task=task, sha256=sha256, notes=(no_labels("image"),), **splits)


@pytest.fixture
def unlabelled(few_digits: Dataset) -> Any:
    return blank(few_digits)


def test_its_classes_are_the_task_and_its_first_answers_stand_where_labels_would(
    unlabelled: Any, teacher: ImageTeacher
) -> None:
    told: list[tuple[int, int]] = []
    found = stand_in(unlabelled, teacher, lambda done, of: told.append((done, of)))
    assert (found.task.classes, found.task.truth, found.task.class_names) == (10, "teacher", teacher.namings[0])
    with torch.no_grad():
        for name in ("train", "selection", "test"):
            split = getattr(found, name)
            answers_NK = teacher.logits(split.examples(slice(None)))
            assert split.y_N.tolist() == answers_NK.argmax(1).tolist()
    assert found.task.prevalence == tuple(np.bincount(found.train.y_N, minlength=10) / 256)
    assert (found.sha256, found.notes) == (unlabelled.sha256, unlabelled.notes)
    assert told[-1] == (512, 512)
    assert domains.judge(found.task) is AGREEMENT
    assert AGREEMENT.chance(found.task) == 100 * max(found.task.prevalence)


def test_uneven_answers_make_no_uneven_task(unlabelled: Any, teacher: ImageTeacher) -> None:
    assert not replace(stand_in(unlabelled, teacher).task, prevalence=(0.9, *([0.1 / 9] * 9))).uneven


def test_a_domain_reads_them_so_and_leaves_labelled_ones_alone(
    unlabelled: Any, few_digits: Dataset, teacher: ImageTeacher
) -> None:
    domain = domains.of(few_digits.task)
    assert domain.encode(unlabelled, teacher, None).task.classes == 10
    assert domain.encode(few_digits, teacher, None) is few_digits


def test_its_check_compares_nothing(unlabelled: Any, teacher: ImageTeacher) -> None:
    found = check_teacher(teacher, stand_in(unlabelled, teacher))
    assert (found.scores, found.measured, found.notes) == ({}, None, ())


def test_one_that_is_unsure_is_told_of_and_one_answer_for_all_is_refused(
    unlabelled: Any, teacher: ImageTeacher
) -> None:
    vague = replace(teacher, model=Vague(teacher.model))
    (note,) = check_teacher(vague, stand_in(unlabelled, vague)).notes
    assert note.code == UNSURE
    assert re.search(r"is sure by 1\d % on average of the selection images, where a guess is by 10 %", note.detail)
    black = replace(unlabelled, train=replace(unlabelled.train, x_NHWC=0 * unlabelled.train.x_NHWC))
    with pytest.raises(TeacherError, match="gives all 256 training images the same answer"):
        check_teacher(teacher, stand_in(black, teacher))


class Vague(nn.Module):
    """A network of the same answers, and hardly sure of any."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers_BK: torch.Tensor = self.model(x)
        return answers_BK / 20


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"head": "probe"}, "teacher.head", "fits a head to labels"),
        ({"head": "none"}, "teacher.head", "nothing to judge a student by"),
        ({"classes": "natural"}, "teacher.classes", "they are the teacher's"),
    ],
)
def test_what_takes_labels_is_refused_by_its_field(
    unlabelled: Any, teacher_folder: Path, changes: dict[str, Any], field: str, part: str
) -> None:
    source = LocalTeacher(path=teacher_folder, **changes)
    with pytest.raises(InvalidRequest, match=part) as caught:
        load(source, None, unlabelled)
    assert caught.value.field == field
    facts = {"num_classes": 10, **source.model_dump()}
    with pytest.raises(InvalidRequest, match=part) as told:  # and by what is known of it without torch
        check_facts(facts, unlabelled.task, source.classes, field="teacher.id")
    assert told.value.field == field


def test_one_of_many_labels_or_other_images_or_without_a_head_is_refused(
    unlabelled: Any, teacher: ImageTeacher, teacher_folder: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    shutil.copytree(teacher_folder, many)
    config = json.loads((many / "config.json").read_text())
    (many / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    wide = replace(unlabelled, task=replace(unlabelled.task, in_chans=3))
    for refused, part in (
        (lambda: load(LocalTeacher(path=many), None, unlabelled), "any number of labels"),
        (lambda: stand_in(wide, teacher), "channel"),
        (lambda: stand_in(unlabelled, replace(teacher, num_classes=0)), "tells nothing apart"),
    ):
        with pytest.raises(ArchsearchError, match=part):
            refused()


def test_without_torch_the_task_is_as_far_known_as_its_facts(unlabelled: Any) -> None:
    names = ("a", "b", "c")
    found = asked_of({"num_classes": 3, "class_names": names}, unlabelled.task, 10)
    assert (found.classes, found.class_names) == (3, names)
    assert asked_of({}, unlabelled.task, 10).classes == 10
