"""What losses train and remember beside the student survives an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archsearch.data import Dataset
from archsearch.distill.train import train
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import ImageTeacher, fingerprint


def network(dataset: Dataset, space: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return spaces.get(space).build(spaces.get(space).smallest(dataset.task), dataset.task)


@pytest.mark.parametrize("method", ["fitnet", "crd", "reviewkd", "blockwise", "fam"])
def test_an_interrupted_training_ends_with_the_very_same_weights(
    few_digits: Dataset, tmp_path: Path, method: str
) -> None:
    task, path = few_digits.task, tmp_path / "checkpoint.safetensors"
    model = network(few_digits, "vit", seed=7).eval().requires_grad_(False)
    teacher = ImageTeacher("vit", model, task.classes, task.in_chans, task.mean, task.std, None, "unlike its student")
    spec = DistillSpec(method=method, epochs=2, batch_size=64, lr=0.01)
    whole = network(few_digits, "resnet_cifar")
    list(train(whole, few_digits, spec, teacher=teacher))

    first = train(
        network(few_digits, "resnet_cifar"),
        few_digits,
        spec,
        teacher=teacher,
        checkpoint_path=path,
        checkpoint_every_s=0,
    )
    while next(first).epoch < 1:
        pass
    first.close()
    torch.manual_seed(123)  # whatever happened in between
    resumed = network(few_digits, "resnet_cifar")
    reports = list(train(resumed, few_digits, spec, teacher=teacher, checkpoint_path=path))
    assert {report.resumed_at for report in reports} == {4}
    assert fingerprint(resumed) == fingerprint(whole)
