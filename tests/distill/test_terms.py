"""What a loss is made of is told beside it, interrupted or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from archsearch.data import Dataset
from archsearch.distill.progress import Progress
from archsearch.distill.train import train
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint

SUM = {"losses": {"dist": {}, "at": {"weight": 100}, "fitnet": {"weight": 0.5}}, "labels": 0.3}


def student(dataset: Dataset) -> torch.nn.Module:
    torch.manual_seed(0)
    space = spaces.get("resnet_cifar")
    return space.build(space.smallest(dataset.task), dataset.task)


def spec(**fields: Any) -> DistillSpec:
    return DistillSpec(**{"epochs": 3, "batch_size": 64, "precision": "fp32", **fields})


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"method": "kd"}, ["labels", "kd"]),
        ({"method": "kd", "labels": 0}, ["kd"]),
        ({"method": "none"}, ["none"]),
        (SUM, ["labels", "dist", "at", "fitnet"]),
        ({**SUM, "micro_batch": 16}, ["labels", "dist", "at", "fitnet"]),
    ],
)
def test_the_terms_of_every_report_add_up_to_its_loss(
    few_digits: Dataset, teacher: Teacher, asked: dict[str, Any], names: list[str]
) -> None:
    reports = list(train(student(few_digits), few_digits, spec(**asked), teacher=teacher))
    assert len(reports) >= 3
    for report in reports:
        assert list(report.terms) == names
        assert sum(report.terms.values()) == pytest.approx(report.loss, rel=1e-5)
        assert all(value > 0 for value in report.terms.values())


def test_a_term_is_told_as_weighted(few_digits: Dataset, teacher: Teacher) -> None:
    """One step and so the same weights: nothing but the factor tells the two apart."""

    def terms(weight: float) -> dict[str, float]:
        asked = spec(losses={"kd": {"weight": weight}}, epochs=1, batch_size=256)
        return list(train(student(few_digits), few_digits, asked, teacher=teacher))[-1].terms

    once, thrice = terms(1), terms(3)
    assert thrice["labels"] == once["labels"]
    assert thrice["kd"] == pytest.approx(3 * once["kd"])


def stopped_in_the_second_epoch(dataset: Dataset, teacher: Teacher, path: Path) -> None:
    class Stop(Exception):
        pass

    calls, model = 0, student(dataset)

    def stop(module: torch.nn.Module, _inputs: Any) -> None:
        nonlocal calls
        calls += module.training
        if calls == 8:  # one measures its memory; then the third of the second epoch's four steps
            raise Stop

    model.register_forward_pre_hook(stop)
    with pytest.raises(Stop):
        list(train(model, dataset, spec(**SUM), teacher=teacher, checkpoint_path=path, checkpoint_every_s=0))


def ends(reports: list[Progress]) -> dict[int, dict[str, float]]:
    """The terms of each epoch, as its end told them."""
    return {report.epoch: report.terms for report in reports if report.step % 4 == 0}


def test_a_resumed_epoch_tells_what_an_unbroken_one_does(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    whole = ends(list(train(student(few_digits), few_digits, spec(**SUM), teacher=teacher)))
    stopped_in_the_second_epoch(few_digits, teacher, path)
    reports = list(train(student(few_digits), few_digits, spec(**SUM), teacher=teacher, checkpoint_path=path))
    assert reports[0].resumed_at == 6
    assert ends(reports) == {2: whole[2], 3: whole[3]}


def test_a_checkpoint_without_terms_is_gone_on_from_and_they_are_told_from_the_next_epoch_on(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    unbroken, resumed = student(few_digits), student(few_digits)
    whole = ends(list(train(unbroken, few_digits, spec(**SUM), teacher=teacher)))
    stopped_in_the_second_epoch(few_digits, teacher, path)
    for kept in tmp_path.glob("*.safetensors"):
        with safe_open(kept, framework="pt") as file:
            meta = json.loads(file.metadata()["checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        del meta["course"]["term_sums"]
        save_file(tensors, kept, metadata={"checkpoint": json.dumps(meta)})
    reports = list(train(resumed, few_digits, spec(**SUM), teacher=teacher, checkpoint_path=path))
    assert reports[0].resumed_at == 6
    assert ends(reports) == {2: {}, 3: whole[3]}
    assert fingerprint(resumed) == fingerprint(unbroken)
