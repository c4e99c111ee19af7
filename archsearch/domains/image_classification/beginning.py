"""What a teacher's training begins with: a fresh timm network, or a trained one with a new head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from archsearch.domains.domain import Beginning
from archsearch.domains.images.task import ImageDataset, ImageTask


def begin_teacher(asked: Any, dataset: ImageDataset, scratch: Path) -> Beginning:
    """See `Domain.begin_teacher`."""
    from archsearch.export.folder import save_student
    from archsearch.teachers.pretrained import resized

    known = dataset.task
    input_hw = asked.input_size or (known.height, known.width)
    model, task, told = _beginner(known, asked.model, asked.model_args, asked.pretrained, input_hw, scratch)
    shown = model if input_hw == (task.height, task.width) else resized(model, input_hw)
    sized = replace(task, height=input_hw[0], width=input_hw[1])
    return Beginning(
        trained=shown,
        named=model,
        dataset=replace(dataset, task=task),
        optimizer=_optimizer_of(model),
        told=told,
        facts={"input_size": list(input_hw)},
        save=lambda out: save_student(model, sized, out),
    )


def _beginner(
    task: ImageTask,
    model: str | None,
    model_args: Mapping[str, Any] | None,
    pretrained: bool | str,
    input_hw: tuple[int, int],
    scratch: Path,
) -> tuple[Any, ImageTask, str]:
    """The network a teacher's training begins with, the task as it is shown images, and what it is, in a sentence."""
    from archsearch.teachers import build
    from archsearch.teachers.pretrained import load_pretrained

    if not pretrained:
        name = model or "cifar_resnet"
        args = {"num_classes": task.classes, "in_chans": task.in_chans, **(model_args or {})}
        return build(name, args), task, f"{name}, untrained"
    named = str(model if pretrained is True else pretrained)
    found = load_pretrained(
        named, task, scratch / "pretrained", input_hw=input_hw, architecture=model, model_args=model_args
    )
    return found.model, replace(task, mean=found.mean, std=found.std), found.told


def _optimizer_of(model: Any) -> Literal["sgd", "adamw"]:
    """What a network learns best with: transformers and their kin, which have no batch norm, with AdamW."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return "sgd" if any(isinstance(module, _BatchNorm) for module in model.modules()) else "adamw"
