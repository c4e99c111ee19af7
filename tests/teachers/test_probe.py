"""A backbone without a head, or with one for other classes, becomes an ordinary teacher of the data's."""

# N images, B batch, C channels, H W space, K classes, D features

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn.functional import cross_entropy

import archsearch
from archsearch.data import Dataset
from archsearch.domains.image_classification.teacher import load
from archsearch.errors import ArchsearchError, TeacherError
from archsearch.request import LocalTeacher, UploadedTeacher, parse_request
from archsearch.teachers import ImageTeacher, build, check_teacher, describe_folder
from archsearch.teachers.facts import check_facts
from archsearch.teachers.probe import probed
from tests.teachers.folders import bare_folder


@pytest.fixture(scope="module")
def bare(teacher: ImageTeacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_folder(teacher, tmp_path_factory.mktemp("bare") / "backbone")


def fitted(path: Path, dataset: Any, **said: Any) -> ImageTeacher:
    return load(LocalTeacher(path=path, head="probe", **said), None, dataset)


def test_a_bare_backbone_knows_the_data_once_it_has_a_head(bare: Path, digits: Dataset, teacher: ImageTeacher) -> None:
    found = fitted(bare, digits)
    assert found.num_classes == 10
    assert check_teacher(found, digits).measured > check_teacher(teacher, digits).measured - 3
    (note,) = found.notes
    assert note.code == "teacher_probed"
    assert "the data's 10 classes, fitted to" in note.detail
    assert not any(weight.requires_grad for weight in found.model.parameters())


def test_its_head_is_a_ridge_and_no_sharper_or_softer_one_is_better(bare: Path, digits: Dataset) -> None:
    found = fitted(bare, digits)
    model: Any = found.model
    with torch.no_grad():
        x_BCHW = found.prepare(digits.train.examples(slice(None)))
        x_ND = model.forward_head(model.forward_features(x_BCHW), pre_logits=True).double()
        logits_NK = found.logits(digits.train.examples(slice(None))).double()
    x_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0, correction=0).clamp_min(1e-12)
    onehot_NK = np.eye(10)[digits.train.y_N]
    # Some ridge gives these answers but for their sharpness.
    off = [
        float(np.abs(_unit(Ridge(alpha=alpha).fit(x_ND, onehot_NK).predict(x_ND)) - _unit(logits_NK.numpy())).max())
        for alpha in np.geomspace(1e-4, 1e4, 40)
    ]
    assert min(off) < 0.1
    loss = [float(cross_entropy(logits_NK * factor, digits.train.labels())) for factor in (0.5, 1.0)]
    assert loss[1] < loss[0]


def _unit(scores_NK: Any) -> Any:
    """Of scores what neither their scale nor what is common to an image changes."""
    centred_NK = scores_NK - scores_NK.mean(1, keepdims=True)
    return centred_NK / np.sqrt((centred_NK**2).mean())


def test_a_network_of_other_classes_gets_a_head_for_these(
    digits: Dataset, teacher: ImageTeacher, tmp_path: Path
) -> None:
    path, config = tmp_path / "weights", describe_folder(bare_folder(teacher, tmp_path / "seven", classes=7))
    shutil.move(tmp_path / "seven" / "model.safetensors", path)
    source = UploadedTeacher.model_validate({"upload": "up_" + "0" * 20, **config})
    with pytest.raises(TeacherError, match=r"tells 7 classes apart, the data has 10.*teacher.head probe"):
        check_teacher(load(source, path, digits), digits)
    found = load(source, path, digits, head="probe")
    assert check_teacher(found, digits).measured > 80


def test_many_labels_get_odds_of_their_own(pairs: Any, teacher: ImageTeacher, tmp_path: Path) -> None:
    found = fitted(bare_folder(teacher, tmp_path / "backbone"), pairs)
    y_NK = pairs.train.labels()
    logits_NK = found.logits(pairs.train.examples(slice(None)))
    assert check_teacher(found, pairs).measured > 60
    # As many labels are expected as there are.
    assert float(logits_NK.sigmoid().mean()) == pytest.approx(float(y_NK.float().mean()), rel=0.2)


def test_what_it_is_follows_from_the_data_it_was_fitted_to(bare: Path, digits: Dataset, few_digits: Dataset) -> None:
    one, again, other = fitted(bare, digits), fitted(bare, digits), fitted(bare, few_digits)
    assert (one.identity, one.sha256) == (again.identity, again.sha256)
    assert one.sha256 == other.sha256
    assert one.identity != other.identity


def test_without_data_it_stays_as_it_came(bare: Path) -> None:
    assert load(LocalTeacher(path=bare, head="probe"), None, None).num_classes == 0


@pytest.mark.parametrize(
    ("named", "field", "says"),
    [
        (lambda path, _: LocalTeacher(path=path, head="probe", classes="natural"), "teacher.classes", "leave it out"),
        (lambda path, _: LocalTeacher(path=path), "teacher", "has no head"),
    ],
)
def test_what_makes_no_sense_is_refused(
    named: Callable[..., Any], field: str, says: str, bare: Path, digits: Dataset
) -> None:
    with pytest.raises(ArchsearchError, match=says) as caught:
        check_teacher(load(named(bare, digits), None, digits), digits)
    assert caught.value.field == field


def test_a_network_of_two_heads_is_refused(digits: Dataset) -> None:
    args = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "in_chans": 1}
    model = build("deit_tiny_distilled_patch16_224", args)
    teacher = ImageTeacher("two heads", model, 1000, 1, (0.0,), (1.0,), (8, 8), "")
    with pytest.raises(TeacherError, match="no single linear layer"):
        probed(teacher, digits)


def test_a_request_says_so_in_any_of_its_teachers() -> None:
    body = {"kind": "search", "data": {"kind": "digits"}, "budget": {"params": 10_000}}
    for teacher in ({"kind": "timm", "name": "resnet18"}, {"kind": "teacher", "id": "tch_" + "0" * 20}):
        assert parse_request({**body, "teacher": {**teacher, "head": "probe"}}).teacher.head == "probe"
    with pytest.raises(ArchsearchError) as caught:
        parse_request({**body, "teacher": {"kind": "timm", "name": "resnet18", "head": "shrink"}})
    assert caught.value.field == "teacher.head"


@pytest.mark.slow
def test_students_learn_from_features_alone_where_the_request_says_so(bare: Path, tmp_path: Path) -> None:
    request = {
        "teacher": {"kind": "local", "path": str(bare), "head": "none"},
        "data": {"kind": "digits"},
        "budget": {"params_ratio": 0.5},
        "search": {"space": "resnet_cifar", "candidates": 3, "batch_size": 32},
        "distill": {"epochs": 3, "batch_size": 64},
    }
    result: Any = archsearch.run(request, tmp_path / "student")
    assert "teacher.head is none" in result["chosen"]["method"]
    assert result["student"]["method"] == "cosine"
    assert result["student"]["test_acc"] > 50
    with pytest.raises(ArchsearchError, match="kd reads the teacher's answers") as caught:
        archsearch.run({**request, "distill": {"method": "kd", "epochs": 1}}, tmp_path / "other")
    assert caught.value.field == "distill.method"


def test_what_a_row_tells_of_a_head_is_no_matter_where_another_is_fitted(digits: Dataset) -> None:
    facts = {"domain": "image_classification", "num_classes": 7, "class_names": list("abcdefg"), "in_chans": 1}
    check_facts({**facts, "head": "probe"}, digits.task, None)
    for head in ({}, {"head": "keep"}):
        with pytest.raises(TeacherError, match="knows 7 classes, the data has 10"):
            check_facts({**facts, **head}, digits.task, None)
    with pytest.raises(TeacherError, match="knows 3 channels"):
        check_facts({**facts, "head": "probe", "in_chans": 3}, digits.task, None)
