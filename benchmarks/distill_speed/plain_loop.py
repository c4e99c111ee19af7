"""A research loop, as RepDistiller's `helper/loops.py` and mdistiller's `engine/trainer.py` have it."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.distill_speed.images import ENDLESS, Photos, field_transform
from benchmarks.distill_speed.setting import ALPHA, SGD, TEMPERATURE, Loop, Setting, student_of, teacher_of

# It has no types.
timm_utils: Any = import_module("timm.utils")

# As RepDistiller recommends; nobody has more than there are cores.
WORKERS = 8


def plain_loader(setting: Setting) -> DataLoader[tuple[Any, ...]]:
    """Batches as RepDistiller's loader makes them."""
    photos = Photos(setting.dataset.train, field_transform(setting.dataset.task), numbered=True)
    sampler = RandomSampler(photos, num_samples=ENDLESS)
    workers = min(WORKERS, setting.workers)
    return DataLoader(photos, batch_size=setting.batch_size, sampler=sampler, num_workers=workers)


def plain(setting: Setting) -> Loop:
    """A research loop, with the bookkeeping its authors do in every step."""
    student, teacher = student_of(setting), teacher_of(setting)
    optimizer = torch.optim.SGD(student.parameters(), **SGD)
    losses, top1, top5 = (timm_utils.AverageMeter() for _ in range(3))
    for x_BCHW, y_B, index_B in plain_loader(setting):
        x_BCHW, y_B, _ = (tensor.to(setting.device) for tensor in (x_BCHW.float(), y_B, index_B))
        logits_BK = student(x_BCHW)
        with torch.no_grad():
            teacher_BK = teacher(x_BCHW)
        loss = research_loss(logits_BK, teacher_BK, y_B)
        acc1, acc5 = timm_utils.accuracy(logits_BK, y_B, topk=(1, 5))
        for meter, value in ((losses, loss), (top1, acc1), (top5, acc5)):
            meter.update(value.item(), len(y_B))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        yield


def research_loss(logits_BK: Tensor, teacher_BK: Tensor, y_B: Tensor) -> Tensor:
    """(1−α)·CE + α·T²·KL(teacher ‖ student) of Hinton et al. 2015, section 2, as the field's code spells it."""
    log_s_BK, t_BK = log_softmax(logits_BK / TEMPERATURE, dim=1), softmax(teacher_BK / TEMPERATURE, dim=1)
    distance = kl_div(log_s_BK, t_BK, reduction="sum") * TEMPERATURE**2 / len(logits_BK)
    return (1 - ALPHA) * cross_entropy(logits_BK, y_B) + ALPHA * distance
