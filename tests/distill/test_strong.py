"""Trainings on strong views: labels of two images, answers that are kept and shared, and the same bits after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archsearch.data import Dataset
from archsearch.distill import kept as kept_answers
from archsearch.distill.loss import LossInputs, Outputs
from archsearch.distill.objective import Objective, Term, objective
from archsearch.kernels import label_loss
from archsearch.teachers import Teacher, fingerprint
from tests.distill.test_unlabelled import partly, spec, student, trained

STRONG = {"augment": "strong", "views": 2, "epochs": 1, "method": "kd"}


def mixed(share_M: torch.Tensor | None = None) -> LossInputs:
    generator = torch.Generator().manual_seed(0)
    student_BK, teacher_BK = (torch.randn(4, 5, generator=generator) for _ in range(2))
    share_M = torch.tensor([1.0, 0.75, 0.25, 0.5]) if share_M is None else share_M
    y, other = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 4, 4])
    return LossInputs(Outputs(student_BK), Outputs(teacher_BK), y, torch.arange(4), other_M=other, share_M=share_M)


def test_the_labels_part_is_of_both_labels_by_their_shares() -> None:
    batch = mixed()
    answers_BK, share_M = batch.student.answers_MK, batch.share_M
    assert batch.other_M is not None
    own, other = (
        torch.nn.functional.cross_entropy(answers_BK, y, reduction="none") for y in (batch.targets_M, batch.other_M)
    )
    wanted = (share_M * own + (1 - share_M) * other).mean()
    torch.testing.assert_close(objective(spec()).value(batch, {}).terms["labels"], 0.1 * wanted)
    assert objective(spec(method="none")).value(batch, {}).total == pytest.approx(wanted.item())
    alone = mixed(torch.ones(4))
    plain = replace(alone, other_M=None, share_M=None)
    for method in ("none", "label_smoothing"):
        found, usual = (objective(spec(method=method)).value(each, {}).total for each in (alone, plain))
        torch.testing.assert_close(found, usual)


def test_what_compares_by_labels_gets_that_of_the_larger_share() -> None:
    seen = []

    def compute(inputs: LossInputs, settings: object) -> torch.Tensor:
        seen.append(inputs.targets_M.tolist())
        return inputs.student.answers_MK.sum()

    (term,) = objective(spec(method="dkd")).terms
    watched = Term(replace(term.loss, compute=compute), term.settings, 1.0)
    Objective((watched,), 0.0).value(mixed(), {})
    assert seen == [[0, 1, 4, 3]]


def test_views_without_labels_count_for_neither() -> None:
    batch = mixed()
    known = torch.tensor([True, True, False, False])
    blank = replace(batch, targets_M=torch.tensor([0, 1, -1, -1]), other_M=torch.tensor([4, 4, -1, -1]), known_M=known)
    found = objective(spec()).value(blank, {}).terms["labels"]
    answers_BK = batch.student.answers_MK
    own = label_loss(answers_BK, torch.tensor([0, 1, 0, 0]), torch.tensor([1.0, 0.75, 0, 0]))
    wanted = own + label_loss(answers_BK, torch.tensor([4, 4, 0, 0]), torch.tensor([0, 0.25, 0, 0]))
    torch.testing.assert_close(found, 0.1 * wanted)


@pytest.mark.parametrize("top", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_answers_are_kept_shared_and_change_nothing(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: bool
) -> None:
    """Another seed finds them, be they all logits or the likeliest alone; images without labels have theirs."""
    if top:
        monkeypatch.setattr(kept_answers, "MOST_BYTES", 0)
        monkeypatch.setattr(kept_answers, "TOP", 3)
        monkeypatch.setattr(kept_answers.Likeliest, "__init__", _with_three)
    data = partly(replace(few_digits, train=few_digits.train.take(slice(0, 96))), 32)
    without, first, second = student(data), student(data), student(data)
    trained(without, data, spec(**STRONG), teacher=teacher)
    (*_, last) = trained(first, data, spec(**STRONG), teacher=teacher, cache=tmp_path)
    assert fingerprint(first) == fingerprint(without)
    assert last.cached is not None
    (*_, again) = trained(second, data, spec(**STRONG, seed=1), teacher=teacher, cache=tmp_path)
    assert again.cached is not None
    assert last.cached < again.cached
    assert again.cached > 0.4
    (folder,) = [path for path in (tmp_path / "views").iterdir() if path.is_dir()]
    assert np.load(folder / "answers.npy", mmap_mode="r").shape == (96, 2, 7 if top else 10)


def _with_three(self: kept_answers.Likeliest, classes: int, top: int = 3) -> None:
    object.__setattr__(self, "classes", classes)
    object.__setattr__(self, "top", top)


def test_crops_have_answers_too_where_they_are_counted(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    recipe = spec(augment="resized_crop", views=1, epochs=2, batch_size=128)
    *_, last = trained(student(few_digits), few_digits, recipe, teacher=teacher, cache=tmp_path)
    assert last.cached == 0.5
    recipe = spec(augment="resized_crop", epochs=1, batch_size=128)
    *_, last = trained(student(few_digits), few_digits, recipe, teacher=teacher, cache=tmp_path)
    assert last.cached is None


KILLED = """
import json, os, signal, sys
from dataclasses import replace
import torch
torch.set_num_threads(1)
from pathlib import Path
from archsearch.distill.train import train
from archsearch.domains.images import load_digits
from archsearch.request import LocalTeacher
from archsearch.teachers import fingerprint, load_teacher
from tests.distill.test_strong import STRONG
from tests.distill.test_unlabelled import partly, spec, student

folder, teacher, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
digits = load_digits()
data = partly(replace(digits, train=digits.train.take(slice(0, 192))), 64)
model, steps = student(data), 0

def count(module, inputs):
    global steps
    steps += module.training
    if module.training and steps == at:
        os.kill(os.getpid(), signal.SIGKILL)

model.register_forward_pre_hook(count)
kept = dict(checkpoint_path=folder / "checkpoint.safetensors", checkpoint_every_s=0, cache=folder)
recipe = spec(**{**STRONG, "epochs": 2})
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
    assert run("killed", 11)[0] == -signal.SIGKILL
    code, again = run("killed", 0)
    assert code == 0, again
    resumed_at, bits = json.loads(again)
    assert 6 < resumed_at < 11, "in the second epoch"
    assert bits == json.loads(told)[1]
