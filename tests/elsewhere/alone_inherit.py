"""A teacher on a device that is not there is cut there, and its students come back to where they were."""

from __future__ import annotations

import pytest
import torch

from archsearch import device as devices
from archsearch.data import Dataset
from archsearch.inherit import Inheritance, make_ready
from archsearch.teachers import Teacher
from tests.elsewhere.device import NAME, Elsewhere, register

register()
SIZES = {"width1": 4, "width2": 4, "width3": 4}


def nats(ready: Inheritance) -> tuple[float, str]:
    torch.manual_seed(0)
    student = ready.space_of().begin({**ready.space.largest(ready.task), **SIZES}, ready.task)
    return ready.nats(student), next(student.parameters()).device.type


def test_students_are_cut_and_mended_where_the_teacher_is(
    teacher: Teacher, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, lies = nats(make_ready(teacher, few_digits))
    assert lies == "cpu"
    monkeypatch.setattr(devices, "ACCELERATOR", NAME)
    with Elsewhere() as there:
        teacher.model.to(NAME)
        ready = make_ready(teacher, few_digits)
        assert ready.shown.x.device.type == NAME
        found, lies = nats(ready)
        assert there.peak_bytes > 0
        teacher.model.to("cpu")
    assert lies == "cpu"
    assert found == pytest.approx(here, rel=1e-3)
