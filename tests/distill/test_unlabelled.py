"""Trainings on examples of which some have labels: what a batch holds, what is learned of it, and that it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.task import unknown
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch
from archsearch.distill.loss import LossInputs, Outputs
from archsearch.distill.objective import objective
from archsearch.distill.pool import Pool, check_pool, pool, targets
from archsearch.distill.progress import Progress
from archsearch.distill.train import train
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import InvalidRequest
from archsearch.kernels import label_loss, softened_kl
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint
from archsearch.teachers.strange import strange
from archsearch.testing.images import two_digits

LABELLED = 40


def partly(dataset: Dataset, labelled: int = LABELLED) -> Dataset:
    """The same with labels of the first few alone."""
    rest = dataset.train.take(slice(labelled, None))
    apart = replace(rest, y_N=unknown(len(rest)))
    name = f"{labelled}{dataset.sha256[2:]}"
    return replace(dataset, train=dataset.train.take(slice(0, labelled)), unlabelled=apart, sha256=name)


def spec(**fields: Any) -> DistillSpec:
    return DistillSpec(**{"method": "kd", "epochs": 2, "batch_size": 32, "precision": "fp32", **fields})


def batches(dataset: Dataset, group: Group | None = None, first: int = 0, **fields: Any) -> list[Batch]:
    return list(domains.of(dataset.task).loader(dataset, spec(**fields), "cpu", group or Group()).epoch(1, first))


def student(dataset: Dataset) -> torch.nn.Module:
    torch.manual_seed(0)
    space = spaces.get("resnet_cifar")
    return space.build(space.smallest(dataset.task), dataset.task)


def trained(model: torch.nn.Module, dataset: Dataset, recipe: DistillSpec, **kept: Any) -> list[Progress]:
    return list(train(model, dataset, recipe, **kept))


@pytest.mark.parametrize("augment", ["crop_flip", "resized_crop"])
def test_a_quarter_of_a_batch_has_labels_and_an_epoch_is_as_long_as_if_all_had(
    few_digits: Dataset, augment: str
) -> None:
    found = batches(partly(few_digits), augment=augment)
    assert len(found) == len(few_digits.train) // 32
    for batch in found:
        assert ((batch.y >= 0).numpy() == (batch.row_B < LABELLED)).all()
        assert (batch.row_B < LABELLED).tolist() == ([True] + 3 * [False]) * 8, "spread, so that parts have as many"
        assert len(set(batch.row_B.tolist())) == 32
        y_N = few_digits.train.y_N[batch.row_B]
        assert batch.y[batch.y >= 0].tolist() == y_N[batch.row_B < LABELLED].tolist()
    shown = np.concatenate([batch.row_B for batch in found])
    assert set(range(LABELLED)) <= set(shown.tolist())


def test_rows_behind_the_labelled_ones_show_the_others(few_digits: Dataset) -> None:
    for batch in batches(partly(few_digits), augment="none"):
        assert torch.equal(batch.x, few_digits.train.examples(batch.row_B))


def test_processes_share_a_batch_with_as_many_labels_each(few_digits: Dataset) -> None:
    data = partly(few_digits)
    whole, one, two = (batches(data, group) for group in (Group(), Group(0, 2), Group(1, 2)))
    for batch, *parts in zip(whole, one, two, strict=True):
        assert np.array_equal(batch.row_B, np.concatenate([part.row_B for part in parts]))
        assert [int((part.y >= 0).sum()) for part in parts] == [4, 4]


@pytest.mark.parametrize(
    ("labelled", "share", "own"),
    [(40, None, 8), (40, 0.5, 16), (200, None, 25), (3, None, 3), (250, 0.1, 26), (40, 0.99, 31)],
)
def test_the_share_is_a_quarter_or_what_there_is_or_what_is_asked_for(
    few_digits: Dataset, labelled: int, share: float | None, own: int
) -> None:
    found = pool(partly(few_digits, labelled), spec(labelled_share=share))
    assert (found.own, found.steps) == (own, 8)
    order_SB = found.order(torch.Generator().manual_seed(0)).view(8, 32)
    assert ((order_SB < labelled).sum(1) == own).all()
    assert all(len(set(row)) == 32 for row in order_SB.tolist())


def test_without_a_loss_that_reads_the_teacher_labelled_ones_are_all_there_is(few_digits: Dataset) -> None:
    data = partly(few_digits)
    assert pool(data, spec(method="none")) == Pool(LABELLED, 0, 32, 32, 8)
    shown = np.concatenate([batch.row_B for batch in batches(data, method="none")])
    assert (np.bincount(shown, minlength=LABELLED) >= 8 * 32 // LABELLED).all()
    assert shown.max() < LABELLED


def test_the_order_of_data_with_labels_is_what_it_was() -> None:
    whole = Pool(100, 0, 32, 32, 3)
    assert whole.once
    drawn = whole.order(torch.Generator().manual_seed(5))
    assert torch.equal(drawn, torch.randperm(100, generator=torch.Generator().manual_seed(5)))


def test_a_share_of_labels_makes_no_sense_where_all_have_them(few_digits: Dataset, teacher: Teacher) -> None:
    with pytest.raises(InvalidRequest, match="every training example has its label") as caught:
        trained(student(few_digits), few_digits, spec(labelled_share=0.5), teacher=teacher)
    assert caught.value.field == "distill.labelled_share"
    check_pool(spec(labelled_share=0.5), partly(few_digits))


def drawn(classes: int = 5, many: bool = False) -> LossInputs:
    generator = torch.Generator().manual_seed(0)
    student_BK, teacher_BK = (torch.randn(8, classes, generator=generator) for _ in range(2))
    y = torch.tensor([0, -1, -1, 3, -1, 4, -1, -1])
    if many:
        y = torch.where(y[:, None] < 0, -1.0, (torch.randn(8, classes, generator=generator) > 0).float())
    known_M = (y if y.ndim == 1 else y[:, 0]) >= 0
    return LossInputs(Outputs(student_BK), Outputs(teacher_BK), y, torch.arange(8), known_M=known_M)


def test_the_labels_part_is_of_labelled_ones_over_all_and_the_teachers_of_all() -> None:
    """L = (1/B)·[Σ labelled w·CE + Σ all KD]."""
    batch = drawn()
    found = objective(spec()).value(batch, {})
    known, answers_BK = batch.targets_M >= 0, batch.student.answers_MK
    assert batch.teacher is not None
    labels = 0.1 * label_loss(answers_BK[known], batch.targets_M[known]) * 3 / 8
    taught = 0.9 * softened_kl(answers_BK, batch.teacher.answers_MK, 4.0)
    torch.testing.assert_close(found.terms["labels"], labels)
    torch.testing.assert_close(found.total, labels + taught)


def test_so_it_is_of_many_labels_an_image() -> None:
    batch = drawn(many=True)
    found = objective(spec(method="mld")).value(batch, {})
    known = batch.targets_M[:, 0] >= 0
    labels = label_loss(batch.student.answers_MK[known], batch.targets_M[known]) * 3 / 8
    torch.testing.assert_close(found.terms["labels"], labels)


def test_what_asks_no_teacher_is_the_labels_too() -> None:
    batch = drawn()
    found = objective(spec(method="auto", losses={"kd": {}, "label_smoothing": {}}, labels=0.0)).value(batch, {})
    known = batch.targets_M >= 0
    smooth = torch.nn.functional.cross_entropy(
        batch.student.answers_MK[known], batch.targets_M[known], label_smoothing=0.1
    )
    torch.testing.assert_close(found.terms["label_smoothing"], smooth * 3 / 8)
    none = replace(batch, targets_M=torch.full((8,), -1), known_M=torch.zeros(8, dtype=torch.bool))
    found = objective(spec(method="auto", losses={"kd": {}, "label_smoothing": {}})).value(none, {})
    assert found.terms["labels"] == found.terms["label_smoothing"] == 0
    assert found.total == found.terms["kd"]


@pytest.mark.parametrize(
    "method", ["kd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dkd", "crd", "blockwise"))]
)
def test_unlabelled_ones_are_learned_from_and_an_interrupted_training_ends_the_same(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, method: str
) -> None:
    data, recipe = partly(few_digits), spec(method=method, augment="crop")
    whole = student(data)
    reports = trained(whole, data, recipe, teacher=teacher, cache=tmp_path / "one")
    assert reports[-1].step == 16
    assert (reports[-1].cached is None) == (method in ("crd", "blockwise")), "rows without labels have their place"
    begun, again = student(data), student(data)
    kept = {"checkpoint_path": tmp_path / "a.safetensors", "cache": tmp_path / "two"}
    first = train(begun, data, recipe, teacher=teacher, checkpoint_every_s=0, **kept)
    while next(first).epoch < 1:
        pass
    first.close()
    assert {report.resumed_at for report in trained(again, data, recipe, teacher=teacher, **kept)} == {8}
    assert fingerprint(again) == fingerprint(whole)
    labels_alone = student(data)
    trained(labels_alone, replace(data, unlabelled=None), recipe, teacher=teacher)
    assert fingerprint(labels_alone) != fingerprint(whole)


def test_of_many_labels_too(teacher: Teacher) -> None:
    data = partly(two_digits(), 64)
    rows = pool(data, spec(method="mld"))
    y_NK = targets(data, rows)
    assert y_NK.shape == (data.training_examples, 10)
    assert (y_NK[64:] == -1).all()
    assert torch.equal(y_NK[:64], data.train.labels())


def test_a_teacher_that_is_unsure_of_them_is_told_of(few_digits: Dataset, teacher: Teacher) -> None:
    data = partly(few_digits)
    assert strange(teacher, few_digits) == ()
    assert strange(teacher, data) == ()
    noise = ImageSplit(np.full((64, 8, 8, 1), 128, np.uint8), unknown(64))
    (note,) = strange(replace(teacher, model=Unsure(teacher.model)), replace(data, unlabelled=noise))
    assert note.code == "unlabelled_strange"
    assert "sure by 1" in note.detail


class Unsure(torch.nn.Module):
    """A teacher that shrugs at what has no contrast."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        plain_B = x_BCHW.flatten(1).std(1) < 1e-6
        answers_BK: torch.Tensor = self.model(x_BCHW)
        return torch.where(plain_B[:, None], 0.01 * answers_BK, answers_BK)


KILLED = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from archsearch.distill.train import train
from archsearch.domains.images import load_digits
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.teachers import fingerprint, load_teacher
from tests.distill.test_unlabelled import partly, spec, student

folder, teacher, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
data = partly(load_digits(), 200)
model, steps = student(data), 0

def count(module, inputs):
    global steps
    steps += module.training
    if module.training and steps == at:
        os.kill(os.getpid(), signal.SIGKILL)

model.register_forward_pre_hook(count)
kept = dict(checkpoint_path=folder / "checkpoint.safetensors", checkpoint_every_s=0, cache=folder)
recipe = spec(batch_size=64, augment="crop_flip")
for report in train(model, data, recipe, teacher=load_teacher(LocalTeacher(path=teacher)), **kept):
    pass
print(json.dumps([report.resumed_at, fingerprint(model)]))
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, teacher_folder: Path) -> None:
    def run(name: str, at: int) -> tuple[int, str]:
        (tmp_path / name).mkdir(exist_ok=True)
        command = [sys.executable, "-c", KILLED, tmp_path / name, teacher_folder, at]
        done = subprocess.run(
            [str(part) for part in command], cwd=Path(__file__).parents[2], text=True, capture_output=True
        )
        return done.returncode, done.stdout or done.stderr

    code, told = run("whole", 0)
    assert code == 0, told
    assert run("killed", 23)[0] == -signal.SIGKILL
    code, again = run("killed", 0)
    assert code == 0, again
    resumed_at, bits = json.loads(again)
    assert 18 < resumed_at < 23, "in the second epoch"
    assert bits == json.loads(told)[1]
