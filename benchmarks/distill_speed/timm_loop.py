"""timm's own distillation: its task, its loader, and the step of its `train.py`."""

# B batch, C channels, H W space

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from benchmarks.distill_speed.images import Photos, crop_and_flip
from benchmarks.distill_speed.setting import ALPHA, SGD, TEMPERATURE, Loop, Setting, student_of, teacher_of

# None of these has types.
timm_data: Any = import_module("timm.data")
timm_optim: Any = import_module("timm.optim")
timm_task: Any = import_module("timm.task")
timm_utils: Any = import_module("timm.utils")
transforms: Any = import_module("torchvision.transforms")

# As timm recommends; nobody has more than there are cores.
WORKERS = 4


def distillation_task(student: nn.Module, teacher: nn.Module, device: str) -> Any:
    """timm's own task. Student and teacher are normalised alike, which it finds out in every step."""
    return timm_task.LogitDistillationTask(
        student,
        teacher,
        criterion=nn.CrossEntropyLoss(),
        distill_loss_weight=ALPHA,
        task_loss_weight=1 - ALPHA,
        temperature=TEMPERATURE,
        device=torch.device(device),
        verbose=False,
    )


def timm_loader(setting: Setting) -> Any:
    """timm's loader: bytes from the workers, normalised on the device; it has an option against ends of epochs."""
    task = setting.dataset.task
    loader = timm_data.create_loader(
        Photos(setting.dataset.train, None),
        input_size=(3, 32, 32),
        batch_size=setting.batch_size,
        is_training=True,
        mean=task.mean,
        std=task.std,
        num_workers=min(WORKERS, setting.workers),
        device=torch.device(setting.device),
        use_multi_epochs_loader=True,
    )
    # Its own crops are ImageNet's, resized; here everyone augments alike.
    loader.dataset.transform = transforms.Compose([*crop_and_flip(), transforms.PILToTensor()])
    return loader


def timm_loop(setting: Setting, *, amp: bool = False, compiled: bool = False) -> Loop:
    """The step of timm's train.py; `amp` with bfloat16 and channels-last."""
    layout: Any = torch.channels_last if amp else torch.contiguous_format
    student, teacher = (model.to(memory_format=layout) for model in (student_of(setting), teacher_of(setting)))
    task = distillation_task(student, teacher, setting.device)
    optimizer = timm_optim.create_optimizer_v2(student, opt="sgd", **SGD)
    if compiled:
        task.compile()
    loader, losses = timm_loader(setting), timm_utils.AverageMeter()
    task.train()
    while True:
        for x_BCHW, y_B in loader:
            x_BCHW = x_BCHW.contiguous(memory_format=layout)
            with torch.autocast(setting.device, torch.bfloat16, enabled=amp):
                loss = task(x_BCHW, y_B)["loss"]
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(y_B))
            optimizer.zero_grad()
            yield
