"""Whoever cancels a job is heard within a batch, in whatever phase it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch import export, story
from archsearch.data import Dataset, batches
from archsearch.errors import Cancelled
from archsearch.export.make import make_formats
from archsearch.ledger.folder import FolderLedger
from archsearch.request import JobRequest
from archsearch.spaces import spaces
from archsearch.teachers import Teacher

BODY = {
    "teacher": {"kind": "local", "path": "teacher"},
    "data": {"kind": "digits"},
    "budget": {"params_ratio": 0.5},
    "search": {"space": "resnet_cifar", "batch_size": 32, "candidates": 2},
    "distill": {"epochs": 1, "batch_size": 64},
}


class Slow(torch.nn.Module):
    """A teacher that is asked about a few images at a time, and during whose answers somebody cancels the job."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.asked, self.cancelled_from = inner, 0, 10**9

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if x_BCHW.device.type == "cpu":
            self.asked += 1
        logits_BK: torch.Tensor = self.inner(x_BCHW)
        return logits_BK

    def report(self, report: dict[str, Any]) -> None:
        """The job's listener."""
        if self.asked >= self.cancelled_from:
            raise Cancelled("cancelled on request")


@pytest.fixture
def slow(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(batches, "_ASK_EVERY_S", 0.0)
    monkeypatch.setattr(batches, "_MACS", {"cpu": 2**21, "cuda": 2**21})  # some images of the digits' teacher
    return Slow(teacher.model)


def told(slow: Slow, teacher: Teacher, dataset: Dataset, folder: Path) -> story.Story:
    request = JobRequest.model_validate(BODY)
    ledger = FolderLedger(folder, request, slow.report)
    return story.Story(request, ledger, lambda: story.Opened(dataclasses.replace(teacher, model=slow), dataset))


def test_a_validation_is_cancelled_between_two_batches(
    slow: Slow, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    slow.cancelled_from = 3
    with pytest.raises(Cancelled):
        story.validate(told(slow, teacher, few_digits, tmp_path))
    assert slow.asked == 3


@pytest.mark.slow
def test_the_reading_of_the_test_split_is_cancelled_between_two_batches(
    slow: Slow, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    space = spaces.get("resnet_cifar")
    architecture = space.smallest(few_digits.task)
    export.save_student(space.build(architecture, few_digits.task), few_digits.task, tmp_path / "student")
    slow.cancelled_from = 3
    chosen, so_far = (
        {"space": space.name, "architecture": architecture},
        {"teacher": {}, "student": {"folder": "student"}},
    )
    with pytest.raises(Cancelled):
        story.finish(told(slow, teacher, few_digits, tmp_path), chosen, so_far)
    assert slow.asked == 3


def test_the_making_of_formats_is_cancelled_and_leaves_nothing_half(few_digits: Dataset, tmp_path: Path) -> None:
    """Every error there is taken for the exporter's own: this one is not."""
    space = spaces.get("resnet_cifar")
    model = space.build(space.smallest(few_digits.task), few_digits.task)
    export.save_student(model, few_digits.task, tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    calls = 0

    def cancelled(*at: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:  # after the student's own answers, in the first format's
            raise Cancelled("cancelled on request")

    with pytest.raises(Cancelled):
        make_formats(tmp_path, few_digits.task, few_digits.selection, names=["pt2"], alive=cancelled)
    left = {path.name for path in tmp_path.iterdir()}
    assert not any(name.startswith(".archsearch-") or name.endswith(".pt2") for name in left), left - before
