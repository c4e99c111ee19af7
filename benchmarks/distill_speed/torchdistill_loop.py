"""torchdistill's own distillation, configured as in its CIFAR-100 examples."""

# B batch, C channels, H W space

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.utils.data import RandomSampler

from benchmarks.distill_speed.images import ENDLESS, Photos, field_transform
from benchmarks.distill_speed.setting import ALPHA, SGD, TEMPERATURE, Loop, Setting, student_of, teacher_of

# As torchdistill recommends; nobody has more than there are cores.
WORKERS = 16


def distillation_box(student: nn.Module, teacher: nn.Module, setting: Setting) -> Any:
    """torchdistill's box, configured as in its CIFAR-100 examples of knowledge distillation."""
    read = {
        f"{who}_module_{what}": v for who in ("student", "teacher") for what, v in (("path", "."), ("io", "output"))
    }
    kd = {"key": "KDLoss", "kwargs": {**read, "temperature": TEMPERATURE, "alpha": 1 - ALPHA, "reduction": "batchmean"}}
    workers = min(WORKERS, setting.workers)
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler, "kwargs": {"num_samples": ENDLESS}},
            "kwargs": {"batch_size": setting.batch_size, "num_workers": workers},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": dict(SGD)},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}}},
    }
    data = {"train": Photos(setting.dataset.train, field_transform(setting.dataset.task))}
    build = import_module("torchdistill.core.distillation").get_distillation_box
    return build(teacher, student, data, config, torch.device(setting.device), None, False, 1)


def torchdistill_loop(setting: Setting) -> Loop:
    """The step of torchdistill's examples/torchvision/image_classification.py, with its meters and its check."""
    log = import_module("torchdistill.misc.log")
    box, device = distillation_box(student_of(setting), teacher_of(setting), setting), torch.device(setting.device)
    logger = log.MetricLogger(delimiter="  ")
    logger.add_meter("lr", log.SmoothedValue(window_size=1, fmt="{value}"))
    logger.add_meter("img/s", log.SmoothedValue(window_size=10, fmt="{value}"))
    box.pre_epoch_process(epoch=0)
    for x_BCHW, y_B, extra in logger.log_every(box.train_data_loader, 100, "Epoch: [0]"):
        started = time.time()
        x_BCHW, y_B = x_BCHW.to(device), y_B.to(device)
        loss = box.forward_process(x_BCHW, y_B, extra)
        box.post_forward_process(loss=loss)
        logger.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        logger.meters["img/s"].update(len(y_B) / (time.time() - started))
        if torch.isnan(loss) or torch.isinf(loss):
            raise ValueError(f"the loss became {loss}")
        yield
