"""Names on both sides are held against each other, and a head numbered otherwise is put in order or found out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from archsearch.data import Dataset
from archsearch.distill.watched import Watched
from archsearch.domains.images.assemble import assemble
from archsearch.domains.images.task import ImageSplit, ImageTask
from archsearch.errors import ArchsearchError, TeacherError
from archsearch.request import LocalTeacher, UploadedTeacher
from archsearch.teachers import ImageTeacher, check_teacher, describe_folder, load_teacher
from archsearch.teachers.classes import order_of
from archsearch.teachers.order import reordered

# K classes

# As people count them; sorted by code point they start with 10.
NATURAL = tuple(map(str, range(8, 18)))
SORTED = tuple(sorted(NATURAL))

Named = Callable[[Any], Path]


@pytest.fixture
def named(teacher_folder: Path, tmp_path: Path) -> Named:
    """The teacher of digits with other names, as its config.json holds them."""

    def save(names: Any, key: str = "label_names") -> Path:
        folder = tmp_path / f"named{len(list(tmp_path.iterdir()))}"
        shutil.copytree(teacher_folder, folder)
        config = json.loads((folder / "config.json").read_text())
        del config["label_names"]
        (folder / "config.json").write_text(json.dumps({**config, key: names}))
        return folder

    return save


def called(digits: Dataset, names: Sequence[str]) -> Dataset:
    """The digits 0 to 9 called 8 to 17, with the classes in the order of `names`; no names where these are others."""
    number = [names.index(name) for name in NATURAL] if set(names) == set(NATURAL) else list(range(10))

    def renumbered(split: ImageSplit) -> ImageSplit:
        return ImageSplit(split.x_NHWC, np.asarray(number)[split.y_N])

    splits = [renumbered(split) for split in (digits.train, digits.selection, digits.test)]
    return assemble(*splits, 10, tuple(names))


def accuracy(path: Path, dataset: Dataset, classes: Any = None) -> float:
    teacher = load_teacher(LocalTeacher(path=path, classes=classes), task=dataset.task)
    return check_teacher(teacher, dataset).measured


# ------------------------------------------------------------------------------------- the same names


@pytest.mark.parametrize("key", ["label_names", "id2label"])
def test_the_same_names_in_another_order_are_put_in_order_and_it_is_said(
    digits: Dataset, teacher: ImageTeacher, named: Named, key: str
) -> None:
    names = NATURAL if key == "label_names" else {str(k): name for k, name in enumerate(NATURAL)}
    dataset = called(digits, SORTED)
    found = load_teacher(LocalTeacher(path=named(names, key)), task=dataset.task)
    (note,) = found.notes
    assert note.code == "classes_reordered"
    assert "10 of 10 classes" in note.detail
    assert "class 0 is '10', which is its output 2" in note.detail
    assert check_teacher(found, dataset).measured == pytest.approx(check_teacher(teacher, digits).measured)


def test_whoever_looks_at_the_network_itself_finds_it_in_order(
    digits: Dataset, teacher: ImageTeacher, named: Named
) -> None:
    found = load_teacher(LocalTeacher(path=named(NATURAL)), task=called(digits, SORTED).task)
    order = [NATURAL.index(name) for name in SORTED]
    x_BCHW = digits.test.images()[:8].float() / 255
    torch.testing.assert_close(found.logits(x_BCHW), teacher.logits(x_BCHW)[:, order])
    assert found.model.fc.weight.equal(teacher.model.fc.weight[order])
    assert not any(weight.requires_grad for weight in found.model.parameters())
    outputs = Watched(found.model, (), {"head"}).outputs(found.logits(x_BCHW))
    assert outputs.weight_KD is not None
    assert outputs.weight_KD.equal(teacher.model.fc.weight[order])


def test_another_order_is_another_identity_of_the_same_weights(
    digits: Dataset, teacher: ImageTeacher, named: Named
) -> None:
    found = load_teacher(LocalTeacher(path=named(NATURAL)), task=called(digits, SORTED).task)
    assert found.sha256 == teacher.sha256
    assert found.identity != teacher.identity


def test_the_same_order_changes_and_says_nothing(digits: Dataset, teacher: ImageTeacher, named: Named) -> None:
    found = load_teacher(LocalTeacher(path=named(NATURAL)), task=called(digits, NATURAL).task)
    assert (found.order, found.notes, found.identity) == (None, (), teacher.identity)


def test_names_that_differ_in_spelling_alone_are_the_same_and_it_is_said(digits: Dataset, named: Named) -> None:
    dataset = called(digits, tuple(f"number_{k}" for k in range(10)))
    found = load_teacher(LocalTeacher(path=named([f" Number {k}" for k in range(10)])), task=dataset.task)
    assert found.order is None
    assert [note.code for note in found.notes] == ["class_names_spelt_otherwise"]


def test_an_upload_carries_its_names(digits: Dataset, named: Named) -> None:
    folder = named(NATURAL)
    source = UploadedTeacher.model_validate({"upload": "up_0123456789", **describe_folder(folder)})
    assert source.class_names == list(NATURAL)
    dataset = called(digits, SORTED)
    found = load_teacher(source, folder / "model.safetensors", dataset.task)
    assert check_teacher(found, dataset).measured > 80


# ------------------------------------------------------------------------------------------ other names


def test_other_names_are_refused_with_the_pairs(digits: Dataset, named: Named) -> None:
    names = [*NATURAL[:7], "fifteen", "sixteen", "17"]
    with pytest.raises(TeacherError) as caught:
        load_teacher(LocalTeacher(path=named(names)), task=called(digits, NATURAL).task)
    assert caught.value.field == "teacher"
    assert "class 7 is '15' in the data and 'fifteen' to the teacher" in caught.value.detail
    assert "classes: {'15':" in caught.value.detail


def test_a_map_says_which_is_which(digits: Dataset, named: Named) -> None:
    names = [*NATURAL[:7], "fifteen", "sixteen", "17"]
    dataset = called(digits, SORTED)
    assert accuracy(named(names), dataset, {"15": "fifteen", "16": 8}) > 80


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({"99": 0}, "'99' is no class of the data"),
        ({"8": 10}, "10 is none of the teacher's outputs, 0 to 9"),
        ({"8": "nine"}, "knows no class 'nine'"),
        ({"8": 1}, "both given the teacher's output 1"),
    ],
)
def test_a_map_that_cannot_be_is_refused(digits: Dataset, named: Named, classes: Any, says: str) -> None:
    with pytest.raises(TeacherError) as caught:
        accuracy(named(NATURAL), called(digits, NATURAL), classes)
    assert says in caught.value.detail
    assert str(caught.value.field).startswith("teacher.classes")


def test_a_teacher_of_more_classes_serves_data_of_some_of_them(digits: Dataset, named: Named) -> None:
    few = [split.take(np.flatnonzero(split.y_N < 4)) for split in (digits.train, digits.selection, digits.test)]
    dataset = assemble(*few, 4, NATURAL[:4])
    with pytest.raises(TeacherError, match="tells 10 classes apart, the data has 4"):
        accuracy(named(NATURAL), dataset)
    found = load_teacher(LocalTeacher(path=named(NATURAL), classes={}), task=dataset.task)
    assert (found.num_classes, found.model.num_classes) == (4, 4)
    assert check_teacher(found, dataset).measured > 90


def test_stock_networks_are_known_by_imagenets_names() -> None:
    from timm.data.imagenet_info import ImageNetInfo

    from archsearch.domains.images.task import ImageTask
    from archsearch.teachers.order import in_order_of

    synsets = ImageNetInfo("imagenet-1k").label_names()
    model = timm.create_model("test_vit", img_size=32)
    model.eval().requires_grad_(False)
    stock = ImageTeacher("test_vit", model, 1000, 3, (0.5,) * 3, (0.5,) * 3, (32, 32), "sha")
    task = ImageTask(1000, 3, 32, 32, (0.5,) * 3, (0.5,) * 3, tuple(reversed(synsets)))
    assert in_order_of(task, stock).order == tuple(range(999, -1, -1))


@pytest.mark.parametrize("name", ["test_vit", "deit_tiny_distilled_patch16_224", "mobilenetv3_small_050", "regnetx_002",
                                  "convnext_atto", "efficientnet_b0"])  # fmt: skip
def test_every_familys_classifier_can_be_put_in_order(name: str) -> None:
    model: Any = timm.create_model(name, num_classes=5, **({"img_size": 32} if "patch" in name else {}))
    model.eval().requires_grad_(False)
    x_BCHW = torch.rand(2, 3, 32, 32) if name != "test_vit" else torch.rand(2, 3, 160, 160)
    teacher = ImageTeacher(name, model, 5, 3, (0.5,) * 3, (0.5,) * 3, (x_BCHW.shape[2], x_BCHW.shape[3]), "sha")
    before = teacher.logits(x_BCHW)
    torch.testing.assert_close(reordered(teacher, (4, 0, 2)).logits(x_BCHW), before[:, [4, 0, 2]])


def test_a_network_whose_answers_are_not_its_classifiers_is_refused(teacher: ImageTeacher) -> None:
    class Turned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_classes, self.fc = 10, torch.nn.Linear(64, 10)

        def get_classifier(self) -> torch.nn.Module:
            return self.fc

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return self.fc(x_BCHW.flatten(1)).roll(1, 1)

    with pytest.raises(TeacherError, match="cannot be put in order"):
        reordered(replace(teacher, model=Turned()), tuple(range(9, -1, -1)))


# ---------------------------------------------------------------------------------------- without names


def test_a_natural_order_is_found_out_where_the_teacher_has_no_names(digits: Dataset, named: Named) -> None:
    dataset = called(digits, SORTED)
    with pytest.raises(TeacherError) as caught:
        accuracy(named(None), dataset)
    assert caught.value.field == "teacher.classes"
    assert "natural order (8, 9, 10, 11, …)" in caught.value.detail
    assert accuracy(named(None), dataset, "natural") > 80


def test_an_order_nobody_named_is_found_out(digits: Dataset, named: Named) -> None:
    turned = [
        replace_labels(split, (np.arange(10) + 3) % 10) for split in (digits.train, digits.selection, digits.test)
    ]
    dataset = assemble(*turned, 10)
    with pytest.raises(TeacherError) as caught:
        accuracy(named(None), dataset)
    assert "'0': 7, '1': 8, '2': 9" in caught.value.detail
    assert accuracy(named(None), dataset, {str(k): (k + 7) % 10 for k in range(10)}) > 80


def test_two_classes_changed_for_each_other_are_told(digits: Dataset, named: Named) -> None:
    swap = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
    swapped = [replace_labels(split, swap) for split in (digits.train, digits.selection, digits.test)]
    dataset = assemble(*swapped, 10)
    checked = check_teacher(load_teacher(LocalTeacher(path=named(None)), task=dataset.task), dataset)
    (note,) = checked.notes
    assert note.code == "classes_mixed_up"
    assert "(2 classes moved): set teacher.classes to {'8': 9, '9': 8}" in note.detail


def test_the_requests_own_word_is_believed(digits: Dataset, named: Named) -> None:
    dataset = called(digits, SORTED)
    teacher = load_teacher(LocalTeacher(path=named(NATURAL), classes="as_is"), task=dataset.task)
    assert teacher.order is None
    with pytest.raises(ArchsearchError, match="Check the order"):  # it is at chance, and that is never believed
        check_teacher(teacher, dataset)


def test_nothing_is_found_in_luck(digits: Dataset) -> None:
    from archsearch.teachers.mixed_up import better_order

    rng = np.random.default_rng(0)
    for classes in (2, 10, 100):
        for _ in range(30):
            answer_N, y_N = rng.integers(0, classes, (2, 300))
            assert better_order(answer_N, y_N, (), classes) is None


def replace_labels(split: ImageSplit, number_K: np.ndarray) -> ImageSplit:
    return ImageSplit(split.x_NHWC, number_K[split.y_N])


class Counted(str):
    """A name that counts how often it is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("mapped", [False, True])
def test_many_names_are_compared_in_linear_time(mapped: bool) -> None:
    many = 3000
    given: Any = {f"mine {k}": f"theirs {k}" for k in range(many - 1)} if mapped else None
    theirs = tuple(Counted(f"theirs {k}") for k in range(many))
    mine = tuple(Counted(f"mine {k}") for k in range(many))
    task = ImageTask(many, 1, 8, 8, (0.5,), (0.5,), mine)
    Counted.compared = 0
    with pytest.raises(TeacherError, match="'mine 2999'" if mapped else "name their classes differently"):
        order_of("the teacher", (theirs,), many, task, given)
    assert Counted.compared < 20 * many
