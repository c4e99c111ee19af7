"""Trainings on examples of which none has a label: what the teacher answers is all that is learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archsearch.data import Dataset
from archsearch.data.task import UNKNOWN
from archsearch.distill.method import settle
from archsearch.distill.objective import objective
from archsearch.distill.pool import check_pool, pool, targets
from archsearch.distill.train import check_distill
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec, LossTerm
from archsearch.teachers import Teacher, fingerprint
from archsearch.teachers.stand_in import stand_in
from tests.distill.test_unlabelled import spec, student, trained
from tests.teachers.test_stand_in import blank


@pytest.fixture
def data(few_digits: Dataset, teacher: Teacher) -> Any:
    return stand_in(blank(few_digits), teacher)


@pytest.mark.parametrize("method", ["auto", "kd", "dkd", "dist", "cosine"])
def test_labels_have_no_part_in_any_method(data: Any, method: str) -> None:
    settled = settle(spec(method=method), data.task).spec
    found = objective(settled, data.task)
    assert (found.labels, found.weight_K) == (0.0, None)
    assert "labels" not in found.names
    labelled = objective(settled, replace(data.task, truth="labels"))
    assert [term.weight for term in found.terms] == [term.weight for term in labelled.terms]


def test_a_sum_has_no_labels_part_either(data: Any) -> None:
    terms = {"kd": LossTerm(), "pkd": LossTerm.model_validate({"weight": 2.0})}
    assert objective(spec(method="auto", losses=terms), data.task).labels == 0
    assert objective(spec(labels=0.0), data.task).labels == 0
    assert objective(spec(alpha=1.0), data.task).terms[0].weight == 1


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"labels": 0.5}, "distill.labels"),
        ({"alpha": 0.9}, "distill.alpha"),
        ({"labelled_share": 0.5}, "distill.labelled_share"),
        ({"class_weights": "balanced"}, "distill.class_weights"),
        ({"baseline": True}, "distill.baseline"),
        ({"method": "none"}, "distill.method"),
        ({"method": "label_smoothing"}, "distill.method"),
        ({"method": "auto", "losses": {"kd": {}, "tf_kd": {}}}, "distill.losses.tf_kd"),
    ],
)
def test_what_asks_for_labels_is_refused_by_its_field(data: Any, asked: dict[str, Any], field: str) -> None:
    recipe = DistillSpec.model_validate({"method": "kd", **asked})
    checks = [lambda: check_distill(recipe, data.task), lambda: check_pool(recipe, data)]
    for check in checks[1:] if field == "distill.labelled_share" else checks[:1]:
        with pytest.raises(InvalidRequest, match="no example has one") as caught:
            check()
        assert caught.value.field == field


def test_no_row_of_a_training_has_a_label(data: Any) -> None:
    rows = pool(data, spec())
    assert (rows.labelled, rows.unlabelled, rows.once) == (256, 0, True)
    assert set(targets(data, rows).tolist()) == {UNKNOWN}


@pytest.mark.parametrize(
    "fields", [{}, pytest.param({"method": "dkd", "augment": "strong", "views": 2}, marks=pytest.mark.slow)]
)
def test_what_stands_where_labels_would_changes_no_weight(data: Any, teacher: Teacher, fields: dict[str, Any]) -> None:
    """Other answers there, and the student is the same to the bit: they are for meters alone."""
    shuffled = np.random.default_rng(0).permutation(data.train.y_N)
    other = replace(data, train=replace(data.train, y_N=shuffled))
    found = []
    for each in (data, other):
        model = student(each)
        last = trained(model, each, spec(epochs=1, **fields), teacher=teacher)[-1]
        found.append(fingerprint(model))
        assert last.metric == "agreement"
        assert set(last.terms) <= {"kd", "dkd"}
    assert found[0] == found[1]
