"""A domain whose tasks are judged by a loss in nats: every room that compares heeds that lower is better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import archsearch
from archsearch import domains
from archsearch.cli.outcome import sentences
from archsearch.data import Dataset
from archsearch.data.metrics import ACCURACY, NLL, Metric, measure
from archsearch.distill.train import logits
from archsearch.domains.image_classification.domain import ImageClassification
from archsearch.domains.images.task import ImageTask
from archsearch.errors import TeacherError
from archsearch.ledger.folder import FolderLedger
from archsearch.progress import details
from archsearch.request import DistillSpec, JobRequest, VerifySpec
from archsearch.search import Trial
from archsearch.spaces import Cost, spaces
from archsearch.story import Opened, Story, tell
from archsearch.story.distil import distil
from archsearch.teachers import ImageTeacher, check_teacher
from archsearch.verify import Contender, verify

SMALL = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 8, "width2": 8, "width3": 16}


class ImagesInNats(ImageClassification):
    """Images, judged by how likely their labels were held to be."""

    def metrics(self, task: ImageTask) -> Sequence[Metric]:
        return (NLL, ACCURACY)


DOMAIN = ImagesInNats()


@pytest.fixture
def in_nats(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Digits whose domain the table finds here."""
    monkeypatch.setitem(domains.DOMAINS, few_digits.task.domain, __name__)
    return few_digits


def trial(number: int, score: float, width: int) -> Trial:
    architecture = {**SMALL, "width1": width, "width2": width, "width3": 2 * width}
    return Trial(number, "resnet_cifar", architecture, Cost(1000, 1000), "scored", score, {}, {}, None, 0.1, (score,))


def test_contenders_stand_by_how_little_they_lose() -> None:
    one, other = trial(0, 1.0, 8), trial(1, 9.0, 8)
    field = [Contender(one, (0.3,)), Contender(other, (0.7,)), Contender(other, (None,)), Contender(one, (2.0, 1.5))]
    ranked = sorted(field, key=lambda contender: contender.standing(NLL), reverse=True)
    assert [contender.rounds for contender in ranked] == [(2.0, 1.5), (0.3,), (0.7,), (None,)]


@pytest.mark.slow
def test_the_contender_of_the_smallest_loss_wins(in_nats: Dataset, teacher: ImageTeacher, tmp_path: Path) -> None:
    reports: list[Any] = []
    found = verify(
        VerifySpec(candidates=3, epochs=2),
        DistillSpec(method="kd", epochs=40, batch_size=64, lr=0.2),
        [trial(0, 9.0, 8), trial(1, 8.0, 16), trial(2, 7.0, 40)],
        {space.name: space for space in spaces},
        teacher,
        in_nats,
        folder=tmp_path / "verify",
        cache=tmp_path / "cache",
        report=reports.append,
    )
    assert found["judged_by"] == {"key": "nll", "name": NLL.name, "unit": "nats", "better": "lower"}
    rounds = {candidate["number"]: candidate["selection_nll"] for candidate in found["candidates"]}
    (left_out,) = (number for number, reached in rounds.items() if len(reached) == 1)
    assert rounds[left_out][0] == max(reached[0] for reached in rounds.values())
    assert found["winner"]["number"] == min(rounds.keys() - {left_out}, key=lambda number: rounds[number][1])
    # The widest learns most, and its score was the lowest.
    assert found["winner"]["number"] != 0
    assert found["rank_correlation"] < 0


def told(dataset: Dataset, teacher: ImageTeacher, folder: Path, reports: list[Any]) -> Story:
    request = JobRequest.model_validate(
        {
            "kind": "distill",
            "teacher": {"kind": "local", "path": "teacher"},
            "data": {"kind": "digits"},
            "student": {"space": "resnet_cifar", "architecture": SMALL},
            "distill": {"method": "kd", "epochs": 2, "batch_size": 64, "seeds": 3, "baseline": True, "device": "cpu"},
        }
    )
    return Story(request, FolderLedger(folder, request, reports.append), lambda: Opened(teacher, dataset))


def test_the_seed_of_the_smallest_loss_is_the_student(in_nats: Dataset, teacher: ImageTeacher, tmp_path: Path) -> None:
    reports: list[Any] = []
    story = told(in_nats, teacher, tmp_path / "student", reports)
    found = distil(story, {"space": "resnet_cifar", "architecture": SMALL})
    least = min(found["seeds"].values())
    assert len(set(found["seeds"].values())) == 3
    assert found["seeds"][str(found["seed"])] == found["selection_nll"] == least
    assert found["baseline"].keys() == {"selection_nll", "selection_acc"}
    student = archsearch.load_student(story.ledger.path(found["folder"]))
    kept = measure(NLL, lambda x: logits(student, in_nats.task, x), in_nats.selection)
    assert kept == pytest.approx(least), "what was saved is the seed that was chosen"
    measured = [report for report in reports if report.get("selection_acc") is not None]
    assert {(report["metric"], report["unit"], report["better"]) for report in measured} == {("nll", "nats", "lower")}
    assert f"selection {measured[0]['selection_acc']:.3f} nats" in details(measured[0])


def test_a_teacher_has_to_lose_less_than_guessing_does(in_nats: Dataset, teacher: ImageTeacher) -> None:
    checked = check_teacher(teacher, in_nats)
    assert list(checked.scores) == ["nll", "acc"]
    assert checked.measured < NLL.chance(in_nats.task)

    class Sure(nn.Module):
        """Right about as often as guessing, and sure of it."""

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return 50 * torch.eye(10)[torch.zeros(len(x_BCHW), dtype=torch.int64)]

    with pytest.raises(TeacherError, match=r"reaches a negative log-likelihood of .* nats .* guessing reaches 2\.30"):
        check_teacher(replace(teacher, model=Sure()), in_nats)


@pytest.mark.slow
def test_the_whole_way_is_told_in_nats(in_nats: Dataset, teacher: ImageTeacher, tmp_path: Path) -> None:
    out = tmp_path / "student"
    story = told(in_nats, teacher, out, [])
    result = tell(story, story.ledger.once)
    assert result["judged_by"]["unit"] == "nats"
    student = result["student"]
    assert "judged" not in student, "the doubts are of shares"
    assert student["test_nll"] == pytest.approx(student["evaluation"]["student"]["nll"])
    assert f"reaches {student['test_nll']:.3f} nats negative log-likelihood" in sentences(result, str(out))[0]
    report = json.loads((out / "report.json").read_text())
    assert report["units"]["test_*, points_lost"] == "nats"
    int8, exact = report["formats"]["int8"], report["formats"]["safetensors"]
    assert int8["points_lost"] == pytest.approx(int8["test_nll"] - exact["test_nll"])
    card = (out / "README.md").read_text()
    assert "negative log-likelihood on the test split" in card
    assert f"{exact['test_nll']:.3f} nats" in card
