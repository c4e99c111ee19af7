"""What `precision: auto` takes for six kinds of network, beside what a step takes in each precision."""

# B batch, K classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from archsearch import domains
from archsearch.data.batches import unasked
from archsearch.data.shape import laid_out
from archsearch.data.task import Dataset
from archsearch.device import kind
from archsearch.distill.chosen_precision import CLEARLY, choose
from archsearch.distill.group import Group
from archsearch.distill.timed_step import Training, candidates
from archsearch.domains.images.task import ImageSplit, ImageTask
from archsearch.domains.text.task import TextTask, text_split
from archsearch.hardware.clock import clock
from archsearch.precision import autocast, training_cast
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from benchmarks.distill_speed.setting import Setting, student_of

CLASSES, PIXELS, TOKENS, VOCABULARY, BATCH, ROUNDS = 100, 64, 64, 8192, 32, 9
DEPTHWISE = "bf16, depthwise too"
# By kind: timm's name, and further arguments.
NETWORKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ResNet": ("resnet18", {}),
    "EfficientNet": ("tf_efficientnet_lite0", {}),
    "ConvNeXt": ("convnext_atto", {}),
    "ViT": ("vit_tiny_patch16_224", {"img_size": PIXELS, "patch_size": 8}),
    "RegNet": ("regnetx_002", {}),
}
BERT = "BERT"


@dataclass(frozen=True)
class Row:
    """One kind of network.

    Attributes:
        step_ms: Medians of forward and backward pass, by precision; with depthwise convolutions in bf16, too, where a
            processor would otherwise compute those in fp32.
        faster: The precision of the least time, and `chosen` what `auto` took, in words in `why`.
        right: It took that one, or fp32 where the others are not faster by a tenth.
    """

    network: str
    step_ms: Mapping[str, float]
    faster: str
    chosen: str
    why: str
    right: bool


def measure_all(device: str, rounds: int = ROUNDS) -> tuple[Row, ...]:
    """All six, or five where transformers is not installed."""
    named: dict[str, Callable[[], tuple[nn.Module, Dataset]]] = {name: partial(_pictures, name) for name in NETWORKS}
    if find_spec("transformers") is not None:
        named[BERT] = _words
    return tuple(_row(name, *make(), device, rounds) for name, make in named.items())


def settled(setting: Setting) -> Setting:
    """With what `auto` takes for a long training of the student, whose steps are too few here to be measured."""
    spec = setting.spec.model_copy(update={"method": "none", "epochs": 5000})
    where: Any = (setting.device, Group(), None, unasked)
    chosen = choose(Training(student_of(setting).cpu(), setting.dataset, spec, None, *where), None, str)
    return replace(setting, precision=chosen.precision)


def right(step_ms: Mapping[str, float], chosen: str) -> bool:
    """Whether none that may be taken is clearly faster, and none more exact is as fast."""
    best = min(step_ms.values())
    if chosen == "fp32":
        return best > CLEARLY * step_ms[chosen]
    return step_ms[chosen] * CLEARLY <= best and step_ms[chosen] <= step_ms["fp32"]


def show(rows: tuple[Row, ...]) -> None:
    names = ("fp32", "bf16", "fp16", DEPTHWISE)
    there = [name for name in names if any(name in row.step_ms for row in rows)]
    print(f"{'ms a step':<14}" + "".join(f"{name:>{len(name) + 4}}" for name in there) + "  faster  auto")
    for row in rows:
        times = "".join(f"{row.step_ms.get(name, float('nan')):>{len(name) + 4}.1f}" for name in there)
        print(f"{row.network:<14}{times}  {row.faster:<8}{row.why}{'' if row.right else '  (wrong)'}")


def _row(name: str, student: nn.Module, dataset: Dataset, device: str, rounds: int) -> Row:
    # So many epochs that a measurement pays whatever the device.
    spec = DistillSpec(method="none", epochs=5000, batch_size=BATCH, compile="off")
    training = Training(student, dataset, spec, None, device, Group(), None, unasked)
    chosen = choose(training, None, str)
    times_ms = _times(student, dataset, device, rounds)
    offered = {name: value for name, value in times_ms.items() if name != DEPTHWISE}
    faster = min(offered, key=lambda name: offered[name])
    return Row(name, times_ms, faster, chosen.precision, chosen.why, right(offered, chosen.precision))


def _times(student: nn.Module, dataset: Dataset, device: str, rounds: int) -> dict[str, float]:
    """Medians of forward and backward pass in turns."""
    student = student.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    domain, task = domains.of(dataset.task), dataset.task
    x = laid_out(domain.prepare(dataset.train.examples(slice(0, BATCH)).to(device), task))
    y_B = dataset.train.labels()[:BATCH].to(device)
    casts: dict[str, Callable[[], Any]] = {name: partial(training_cast, name, device) for name in candidates(device)}
    if kind(device) == "cpu" and "bf16" in casts:
        casts[DEPTHWISE] = partial(autocast, "bf16", device)

    def step(cast: Callable[[], Any]) -> None:
        with cast():
            torch.autograd.backward(cross_entropy(student(x).float(), y_B))
        student.zero_grad(set_to_none=True)
        if kind(device) == "cuda":
            torch.cuda.synchronize(device)

    threads = 0 if kind(device) == "cuda" else torch.get_num_threads()
    times: dict[str, list[float]] = {name: [] for name in casts}
    for number in range(2 + rounds):
        for name, cast in casts.items():
            taken_ms = clock(partial(step, cast), 1, threads)
            if number >= 2:
                times[name].append(taken_ms)
    return {name: median(each) for name, each in times.items()}


def _pictures(name: str) -> tuple[nn.Module, Dataset]:
    timm_models: Any = import_module("timm.models")
    generator, (called, arguments) = np.random.default_rng(0), NETWORKS[name]
    x_NHWC = generator.integers(0, 256, (BATCH, PIXELS, PIXELS, 3), np.uint8)
    split = ImageSplit(x_NHWC, generator.integers(0, CLASSES, BATCH))
    task = ImageTask(CLASSES, 3, PIXELS, PIXELS, (0.5,) * 3, (0.29,) * 3)
    return timm_models.create_model(called, num_classes=CLASSES, **arguments), Dataset(task, split, split, split, name)


def _words() -> tuple[nn.Module, Dataset]:
    generator, space = np.random.default_rng(0), spaces.get("bert")
    task = TextTask(CLASSES, TOKENS, VOCABULARY, 0, pair=False)
    ids = generator.integers(0, VOCABULARY, (BATCH, TOKENS)).tolist()
    split = text_split(ids, generator.integers(0, CLASSES, BATCH))
    return space.build({"layers": 4, "heads": 4, "ffn_ratio": 4}, task), Dataset(task, split, split, split, BERT)
