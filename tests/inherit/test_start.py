"""A teacher that knows something, and what is left of it in its students: measured, mended, and fair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archsearch.data import Dataset
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import InvalidRequest
from archsearch.inherit import Inheritance, Unsliceable, make_ready
from archsearch.inherit.start import divergence
from archsearch.request import Architecture, LocalTeacher
from archsearch.teachers import Teacher, load_teacher


@pytest.fixture(scope="module")
def ready(teacher: Teacher, digits: Dataset) -> Inheritance:
    return make_ready(teacher, digits)


@pytest.fixture(scope="module")
def deep(deep_folder: Path, digits: Dataset) -> Inheritance:
    return make_ready(load_teacher(LocalTeacher(path=deep_folder)), digits)


def member(ready: Inheritance, architecture: Architecture, *, mend: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return ready.space_of(mend=mend).begin({**ready.space.largest(ready.task), **architecture}, ready.task)


def nats(ready: Inheritance, architecture: Architecture, *, mend: bool = True) -> float:
    return ready.nats(member(ready, architecture, mend=mend))


def test_the_largest_member_answers_as_the_teacher(ready: Inheritance, teacher: Teacher, digits: Dataset) -> None:
    largest = ready.space.largest(ready.task)
    model = ready.space.build(largest, ready.task)
    assert ready.begin(model).exact
    x = digits.test.examples(slice(None, 32))
    assert ready.nats(model) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(model.eval()(teacher.prepare(x)), teacher.logits(x), atol=1e-5)
    space = ready.space_of()
    assert (space.name, space.start, space.learns_from) == ("teacher", "teacher", 0)
    read = space.read(largest, digits).task
    assert (read.mean, read.std) == (teacher.mean, teacher.std)  # type: ignore[attr-defined]


def test_examples_are_fitted_on_or_judged_by(ready: Inheritance) -> None:
    assert (len(ready.shown), len(ready.judged), len(ready.logits_BK)) == (192, 64, 64)
    apart = torch.cdist(ready.shown.x.flatten(1), ready.judged.x.flatten(1))
    assert float(apart.min()) > 0, "none is both"


def test_few_examples_are_parted_in_half_and_few_of_a_class_alike(teacher: Teacher, digits: Dataset) -> None:
    train = digits.train
    order = np.argsort(train.y_N[:60], kind="stable")
    sorted_by_class = ImageSplit(train.x_NHWC[:60][order], train.y_N[:60][order])  # type: ignore[attr-defined]
    few = make_ready(teacher, replace(digits, train=sorted_by_class))
    assert (len(few.shown), len(few.judged)) == (30, 30)
    with torch.no_grad():
        last = few.model(few.shown.x[-10:]).argmax(dim=1)
    assert len(set(last.tolist())) > 3, "the last are not all of the last class"
    assert nats(few, {"width2": 4}) < 3


@pytest.mark.parametrize("architecture", [{"width3": 4}, {"width1": 4, "width2": 4, "width3": 4}])
def test_less_is_lost_where_layers_are_mended(ready: Inheritance, architecture: Architecture) -> None:
    cut, mended = (nats(ready, architecture, mend=mend) for mend in (False, True))
    assert mended < 0.7 * cut


def test_weights_that_are_begun_with_are_the_same_each_time(ready: Inheritance) -> None:
    one, other = (member(ready, {"width2": 2, "width3": 4}).state_dict() for _ in range(2))
    assert all(value.equal(other[key]) for key, value in one.items())
    torch.manual_seed(7)
    later = ready.space_of().begin({**ready.space.largest(ready.task), "width2": 2, "width3": 4}, ready.task)
    assert all(value.equal(one[key]) for key, value in later.state_dict().items()), "no noise is left"
    assert later.training
    assert all(weight.requires_grad for weight in later.parameters())


@pytest.mark.slow
def test_the_teacher_stays_as_it_was(teacher: Teacher, digits: Dataset) -> None:
    before = {key: value.clone() for key, value in teacher.model.state_dict().items()}
    ready = make_ready(teacher, digits)
    kept = {key: value.clone() for key, value in ready.whole.state.items()}
    nats(ready, {"width1": 2})
    assert not teacher.model.training
    assert all(value.equal(before[key]) for key, value in teacher.model.state_dict().items())
    assert all(value.equal(kept[key]) for key, value in ready.model.state_dict().items())


@pytest.mark.slow
class TestDeeperTeachers:
    @pytest.mark.parametrize(
        "architecture",
        [
            {"depth2": 2},
            {"depth1": 2, "depth2": 2, "depth3": 2},
            {"depth1": 1, "depth2": 1, "depth3": 1},
            {"width1": 4, "width2": 4, "width3": 4},
            {"depth1": 2, "depth2": 2, "depth3": 2, "width1": 6, "width2": 6, "width3": 6},
        ],
    )
    def test_less_is_lost_where_layers_are_mended(self, deep: Inheritance, architecture: Architecture) -> None:
        cut, mended = (nats(deep, architecture, mend=mend) for mend in (False, True))
        assert mended < 0.7 * cut

    def test_mending_hurts_nowhere(self, deep: Inheritance) -> None:
        for depth in (1, 2, 3):
            for width in (2, 4, 6, 8):
                sizes = {f"depth{i}": depth for i in (1, 2, 3)} | {f"width{i}": width for i in (1, 2, 3)}
                cut, mended = (nats(deep, sizes, mend=mend) for mend in (False, True))
                assert mended <= cut + 1e-6, sizes

    def test_blocks_that_change_least_are_the_ones_to_go(self, deep: Inheritance) -> None:
        turned = tuple((order[0], *reversed(order[1:])) for order in deep.whole.order)
        other = replace(deep, whole=replace(deep.whole, order=turned))
        for sizes in ({"depth1": 2}, {"depth2": 2}):
            found = [nats(one, sizes, mend=False) for one in (deep, other)]
            assert found[0] < found[1], sizes


@pytest.mark.slow
def test_many_labels(pairs: Dataset) -> None:
    task: Any = pairs.task
    from archsearch.models import cifar_resnet
    from archsearch.teachers.teacher import ImageTeacher, fingerprint

    torch.manual_seed(0)
    model = cifar_resnet(num_classes=10, in_chans=1, depths=(2, 1, 1), widths=(8, 16, 16)).eval()
    teacher = ImageTeacher("pairs", model, 10, 1, task.mean, task.std, None, fingerprint(model))
    ready = make_ready(teacher, pairs)
    assert nats(ready, {}) == pytest.approx(0, abs=1e-6)
    assert 0 < nats(ready, {"width3": 4}) < nats(ready, {"width3": 4}, mend=False)


def test_divergence_by_hand() -> None:
    teacher, student = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]])
    p = torch.softmax(teacher, 1)
    assert divergence(teacher, student, "classification") == pytest.approx(float((p * (p / 0.5).log()).sum()))
    p, q = torch.sigmoid(teacher), torch.sigmoid(student)
    by_label = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert divergence(teacher, student, "multilabel") == pytest.approx(float(by_label.sum()), rel=1e-5)


def test_who_cannot_be_cut_says_why(digits: Dataset) -> None:
    from archsearch.teachers.teacher import ImageTeacher

    task: Any = digits.task
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    teacher = ImageTeacher("mine", model, 10, 1, task.mean, task.std, None, "0")
    with pytest.raises(InvalidRequest, match="a Sequential is of no family known here"):
        make_ready(teacher, digits)


def test_an_unsliceable_teacher_is_the_requests_mistake() -> None:
    error = Unsliceable("why")
    assert (error.field, error.detail) == ("distill.init", "why")
