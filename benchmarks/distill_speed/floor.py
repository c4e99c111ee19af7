"""The student's bare step: nothing that trains it takes less."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from archsearch.distill.group import Group
from archsearch.distill.schedule import make_optimizer
from archsearch.domains.image_classification import DOMAIN
from archsearch.domains.images.normalise import normalise
from archsearch.precision import autocast
from benchmarks.distill_speed.images import one_epoch
from benchmarks.distill_speed.setting import SGD, Loop, Setting, student_of


def floor(setting: Setting) -> Loop:
    """The student's bare step."""
    layout: Any = torch.channels_last
    student, task = student_of(setting).to(memory_format=layout), setting.dataset.task
    optimizer = make_optimizer(student.parameters(), setting.spec, "sgd")
    for group in optimizer.param_groups:
        group["lr"] = SGD["lr"]
    batches = DOMAIN.loader(one_epoch(setting.dataset, setting.batch_size), setting.spec, setting.device, Group())
    batch = next(iter(batches.epoch(0, 0)))
    x_BCHW = normalise(batch.x, task.mean, task.std)
    run: Any = torch.compile(student) if setting.device == "cuda" else student

    def step() -> None:
        with autocast(setting.precision, setting.device):
            logits_BK = run(x_BCHW)
        torch.autograd.backward(cross_entropy(logits_BK.float(), batch.y))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    again = captured(step) if setting.device == "cuda" else step
    while True:
        again()
        yield


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The step as one CUDA graph. Capturing needs a stream of its own, and steps before it to choose kernels."""
    cuda: Any = torch.cuda
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        for _ in range(3):
            step()
    cuda.current_stream().wait_stream(stream)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay
