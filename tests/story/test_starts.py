"""Why students begin as they do, where the request leaves it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archsearch.data import Dataset
from archsearch.ledger.folder import FolderLedger
from archsearch.request import parse_request
from archsearch.story import Opened, Story, validate
from archsearch.teachers import ImageTeacher


@pytest.fixture
def why(few_digits: Dataset, tmp_path: Path) -> Any:
    """What is told of a request of a teacher, if anything is."""

    def told(teacher: ImageTeacher, **changes: Any) -> str | None:
        body = {
            "teacher": {"kind": "timm", "name": "theirs"},
            "data": {"kind": "digits"},
            "budget": {"params": 5_000},
            "search": {"candidates": 4, "batch_size": 32},
            "distill": {"epochs": 40},
        }
        request = parse_request({**body, **changes})
        ledger = FolderLedger(tmp_path / str(len([*tmp_path.iterdir()])), request, lambda _: None)
        checked = validate(Story(request, ledger, lambda: Opened(teacher, few_digits)))
        found: str | None = checked["settled"]["chosen"].get("init")
        return found

    return told


def test_what_compares_them_is_told(why: Any, teacher: ImageTeacher) -> None:
    both, none = "cut out of the teacher and from noise, a search each", "no network with weights is at hand"
    assert why(teacher) == f"{both}, and the best of them distilled briefly to tell; {none}"
    alone = why(teacher, verify=None)
    assert alone == f"{both}; what begins with weights is measured, and taken before what is guessed; {none}"


def test_a_stranger_is_not_cut_and_it_is_told_why(why: Any, few_digits: Dataset) -> None:
    """It knows the nearest of the classes' means."""
    x_NC = few_digits.train.examples(range(len(few_digits.train))).flatten(1)
    means_KC = torch.stack([x_NC[few_digits.train.labels() == k].mean(0) for k in range(10)])
    nearest = nn.Linear(64, 10)
    nearest.weight.data, nearest.bias.data = means_KC, -0.5 * means_KC.square().sum(1)
    teacher = ImageTeacher("theirs", nn.Sequential(nn.Flatten(), nearest), 10, 1, (0.0,), (1.0,), (8, 8), "")
    told = why(teacher, budget={"params": 5_000, "may_exceed_teacher": True})
    assert told.startswith("from noise; none is cut out of the teacher: a Sequential is of no family known here")


def test_a_request_that_says_so_is_told_nothing(why: Any, teacher: ImageTeacher) -> None:
    assert why(teacher, distill={"init": "scratch"}) is None
    assert why(teacher, search={"space": "resnet_cifar", "candidates": 4, "batch_size": 32}) is None
