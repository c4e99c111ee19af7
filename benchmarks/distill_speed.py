"""How fast a student is distilled: our trainings beside the tools others use, and beside the bare step.

    python -m benchmarks.distill_speed [--data ../shared/data] [--device cuda] [--json FILE]
                                       [--pairs 56:20 32x4:8x4] [--batches 64 512] [--rounds 5] [--no-peers]

Knowledge distillation (0.1·CE + 0.9·T²·KL, T=4) as the field's CIFAR tables have it: crops and flips, 100 classes.

    plain          a research loop: torchvision's transforms on PIL images, fp32, the teacher asked in every step
                   (what RepDistiller's helper/loops.py and mdistiller's engine/trainer.py do for a step)
    timm           timm's LogitDistillationTask and loader, with the step of its train.py and its defaults
    timm amp       the same with --amp --amp-dtype bfloat16 --channels-last
    timm compiled  on CUDA: the same with --torchcompile too
    torchdistill   its DistillationBox with criterion and loader as in its CIFAR-100 examples, and their step
    ours online    archsearch.distill.train.train without the view cache, in --precision
    ours cached    the same, every view answered in an earlier training: the cache is warm
    floor          forward, cross-entropy, backward and optimizer of the student on one resident batch, augmented and
                   normalised before, in our precision, memory format and optimizer; on CUDA one graph, compiled

All are in one process and take turns, because a machine that others use is a noisy one. In every round each does a few
steps as a warm-up, then as many as everyone else while time is taken. A step has all that is done for it: loading,
augmentation, teacher, student, optimizer, and what the loop reports. What comes once a training or once an epoch is
left out: building, compiling, starting workers, evaluation, checkpoints. Images/s are medians of the rounds. The ratios
are medians of the rounds' own: `vs plain`, `vs best peer` (the fastest of timm's and torchdistill's in that round) and
`over floor` (the floor's images/s over ours).

In the others' favour: their workers stay alive and their epochs never end, so nobody waits for a first batch. They have
as many workers as their authors recommend (RepDistiller 8, timm 4, torchdistill 16), but not more than there are cores.
Their loaders fill up while others have their turn: the warm-up uses that up where a step waits for loading, and
elsewhere they are as full at the end of a turn as at its start.

torchdistill 1.1 keeps no teacher's answers. Its releases before 1.0 kept one an image, which is right without
augmentation only, so that could not take part. The stem has the first stage's width here: ResNet-32x4 and ResNet-8x4
begin with 64 channels, RepDistiller's with 32; all contestants train the same networks. The teacher is not trained,
which changes no time. Without --data the images are noise.

The CUDA path is written and not yet measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, RandomSampler

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.data.task import Dataset, Split, Task
from archsearch.distill.feed import feed
from archsearch.distill.group import Group
from archsearch.distill.progress import Progress
from archsearch.distill.schedule import make_optimizer
from archsearch.distill.train import train
from archsearch.precision import Precision, autocast, resolve
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, fingerprint, normalise
from benchmarks.cifar import load_cifar

# B batch, C channels, H W space, K classes, N images

# None of these has types.
timm_data: Any = import_module("timm.data")
timm_models: Any = import_module("timm.models")
timm_optim: Any = import_module("timm.optim")
timm_task: Any = import_module("timm.task")
timm_utils: Any = import_module("timm.utils")
transforms: Any = import_module("torchvision.transforms")

ALPHA, TEMPERATURE = 0.9, 4.0
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
# What the authors of a loop recommend; nobody has more than there are cores.
WORKERS = {"plain": 8, "timm": 4, "torchdistill": 16}
STEPS = {"cpu": 10, "cuda": 200}
STEPS_AT = 64  # the batch size that is said for; larger batches do fewer steps
NOISE_IMAGES = 4096
SELECTION_IMAGES = 64
# A loader shuffles again and again; no measurement comes this far.
ENDLESS = 10**9

PLAIN, ONLINE, CACHED, FLOOR = "plain", "ours online", "ours cached", "floor"
OURS = (ONLINE, CACHED)
RATIOS = ("vs_plain", "vs_best_peer", "over_floor")

# A loop yields after every step and never ends. A turn gives the seconds its timed steps took.
Loop = Generator[None, None, None]
Turn = Callable[[], float]


@dataclass(frozen=True)
class Pair:
    """CIFAR ResNets by depth and, after an x, by what their widths of 16, 32 and 64 are multiplied with."""

    teacher: str
    student: str

    def __str__(self) -> str:
        return f"ResNet-{self.teacher} → ResNet-{self.student}"


@dataclass(frozen=True)
class Setting:
    """What all contestants share.

    Attributes:
        precision: Ours and the floor's.
        workers: Most a loader may have.
        warmup, steps: Of a turn, untimed and timed.
        home: Where the view cache may be.
    """

    pair: Pair
    batch_size: int
    dataset: Dataset
    device: str
    precision: Precision
    workers: int
    warmup: int
    steps: int
    home: Path

    @property
    def spec(self) -> DistillSpec:
        """The field's training as we are asked for it, one epoch of it."""
        values = {"batch_size": self.batch_size, "precision": self.precision, "device": self.device, "epochs": 1}
        return DistillSpec.model_validate({"recipe": "cifar", "method": "kd", **values})


@dataclass(frozen=True)
class Speed:
    """One contestant in one setting: medians, and images/s of every round."""

    images_per_s: float
    step_ms: float
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Ratios:
    """Of one of our trainings; `vs_best_peer` is None where there are no peers."""

    vs_plain: float
    vs_best_peer: float | None
    over_floor: float


@dataclass(frozen=True)
class Row:
    """One pair at one batch size. Speeds are by contestant, ratios by our trainings."""

    pair: str
    batch_size: int
    steps: int
    speeds: Mapping[str, Speed]
    ratios: Mapping[str, Ratios]


@dataclass(frozen=True)
class Machine:
    """Where it was measured. `torchdistill` is None where it is not installed."""

    device: str
    precision: str
    threads: int
    cores: int
    torch: str
    timm: str | None
    torchdistill: str | None


@dataclass(frozen=True)
class Report:
    """All settings. `summary` has the medians of their ratios: of `ours cached`, and with a suffix `ours online`."""

    summary: Mapping[str, float | None]
    machine: Machine
    images: str
    rows: tuple[Row, ...]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="ours and the floor's")
    parser.add_argument("--data", type=Path, help="the folder with CIFAR-100; without it the images are noise")
    parser.add_argument("--pairs", nargs="+", type=pair, default=[Pair("56", "20"), Pair("32x4", "8x4")])
    parser.add_argument("--batches", nargs="+", type=positive, default=[64, 512])
    parser.add_argument("--steps", type=positive, help=f"timed in a turn at batch {STEPS_AT}; larger ones do fewer")
    parser.add_argument("--warmup", type=positive, help="untimed steps at the start of a turn")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--workers", type=int, default=cores(), help="most a loader may have; default: the cores")
    parser.add_argument("--no-peers", action="store_true", help="without timm and torchdistill")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    dataset, images = load_images(arguments.data)
    with tempfile.TemporaryDirectory() as home:
        rows = tuple(
            measure(each, arguments.rounds, peers=not arguments.no_peers)
            for each in settings(arguments, dataset, Path(home))
        )
    report = Report(summarise(rows), machine(arguments.device, arguments.precision), images, rows)
    show(report, peers=not arguments.no_peers)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


def pair(text: str) -> Pair:
    """A pair from `56:20` or `32x4:8x4`."""
    teacher, colon, student = text.partition(":")
    for name in (teacher, student):
        found = re.fullmatch(r"(\d+)(x[1-9]\d*)?", name)
        if not colon or found is None or int(found[1]) < 8 or int(found[1]) % 6 != 2:
            raise argparse.ArgumentTypeError(f"{text!r} is no TEACHER:STUDENT of depths 8, 14, 20, … as in 32x4:8x4")
    return Pair(teacher, student)


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def settings(arguments: argparse.Namespace, dataset: Dataset, home: Path) -> list[Setting]:
    """Every pair at every batch size."""
    if max(arguments.batches) > len(dataset.train):
        sys.exit(f"batches of {max(arguments.batches)} need more than {len(dataset.train)} images")
    steps = arguments.steps or STEPS[arguments.device]
    # On a GPU steps may wait for loading: what loaders have prepared meanwhile has to be used up first.
    warmup = arguments.warmup or (1 if arguments.device == "cpu" else 2 * arguments.workers + 8)
    return [
        Setting(
            pair,
            batch_size,
            dataset,
            arguments.device,
            arguments.precision,
            arguments.workers,
            warmup,
            max(1, steps * STEPS_AT // max(STEPS_AT, batch_size)),
            home / f"{pair.teacher}-{pair.student}-{batch_size}",
        )
        for pair in arguments.pairs
        for batch_size in arguments.batches
    ]


def load_images(folder: Path | None) -> tuple[Dataset, str]:
    """The images, and what they are."""
    if folder is not None:
        dataset = load_cifar(folder, 100)
        return dataset, f"{len(dataset.train)} images of CIFAR-100"
    generator = np.random.default_rng(0)
    x_NHWC = generator.integers(0, 256, (NOISE_IMAGES, 32, 32, 3), np.uint8)
    split = Split(x_NHWC, generator.integers(0, 100, NOISE_IMAGES))
    few = split.take(slice(0, SELECTION_IMAGES))
    task = Task(100, 3, 32, 32, (0.5,) * 3, (0.29,) * 3)
    return Dataset(task, split, few, few, "noise"), f"{NOISE_IMAGES} images of noise"


def measure(setting: Setting, rounds: int, *, peers: bool) -> Row:
    """All contestants, in turns."""
    loops = {PLAIN: plain(setting), **(peers_of(setting) if peers else {}), FLOOR: floor(setting)}
    turns = {name: turn_of(loop, setting) for name, loop in loops.items()}
    turns |= {name: ours(setting, cached=name == CACHED) for name in OURS}
    turns[FLOOR] = turns.pop(FLOOR)  # beside those it is compared with
    times: dict[str, list[float]] = {name: [] for name in turns}
    title, console = f"{setting.pair}, batch {setting.batch_size}", Console(stderr=True)
    try:
        for _ in track(range(rounds), title, console=console, disable=not sys.stderr.isatty()):
            for name, turn in turns.items():
                # RepDistiller, timm and torchdistill let cuDNN choose by trial; our trainings leave it as it is.
                torch.backends.cudnn.benchmark = name not in OURS
                times[name].append(turn())
    finally:
        torch.backends.cudnn.benchmark = False
        for loop in loops.values():
            loop.close()
        if setting.device == "cuda":  # or the next sizes would meet what was compiled for these
            torch.compiler.reset()
    return row(setting, times)


def peers_of(setting: Setting) -> dict[str, Loop]:
    """The tools others use, as far as they are there."""
    found = {"timm": timm_loop(setting), "timm amp": timm_loop(setting, amp=True)}
    if setting.device == "cuda":
        found["timm compiled"] = timm_loop(setting, amp=True, compiled=True)
    if installed("torchdistill"):
        found["torchdistill"] = torchdistill_loop(setting)
    return found


def row(setting: Setting, times: Mapping[str, Sequence[float]]) -> Row:
    """Figures of a setting from the seconds of every contestant's turns."""
    images = setting.steps * setting.batch_size
    rounds = {name: tuple(images / seconds for seconds in each) for name, each in times.items()}
    speeds = {
        name: Speed(median(each), 1000 * setting.batch_size / median(each), each) for name, each in rounds.items()
    }
    ratios = {name: _ratios(rounds, name) for name in OURS}
    return Row(str(setting.pair), setting.batch_size, setting.steps, speeds, ratios)


def _ratios(rounds: Mapping[str, Sequence[float]], name: str) -> Ratios:
    peers = [each for other, each in rounds.items() if other not in (PLAIN, FLOOR, *OURS)]
    best = [max(each) for each in zip(*peers, strict=True)]
    mine, floor = rounds[name], rounds[FLOOR]
    return Ratios(
        vs_plain=_median_ratio(mine, rounds[PLAIN]),
        vs_best_peer=_median_ratio(mine, best) if best else None,
        over_floor=_median_ratio(floor, mine),
    )


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def summarise(rows: Sequence[Row]) -> dict[str, float | None]:
    """Medians over the settings."""
    found: dict[str, float | None] = {}
    for name, suffix in ((CACHED, ""), (ONLINE, "_online")):
        for ratio in RATIOS:
            values = [value for each in rows if (value := getattr(each.ratios[name], ratio)) is not None]
            found[ratio + suffix] = median(values) if values else None
    return found


def turn_of(loop: Loop, setting: Setting) -> Turn:
    """Turns of a loop, which goes on where it was."""

    def turn() -> float:
        go_on(loop, setting.warmup, setting.device)
        started = time.perf_counter()
        go_on(loop, setting.steps, setting.device)
        return time.perf_counter() - started

    return turn


def go_on(loop: Loop, steps: int, device: str) -> None:
    """So many steps, until the device is done with them."""
    for _ in islice(loop, steps):
        pass
    synchronise(device)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def student_of(setting: Setting) -> nn.Module:
    """The student in train mode on the device, with the same weights for everyone."""
    torch.manual_seed(0)
    return network(setting.pair.student, setting.dataset.task).to(setting.device).train()


def teacher_of(setting: Setting) -> nn.Module:
    """The frozen teacher in eval mode on the device, with the same weights for everyone.

    With the statistics it is born with, a deep network's answers explode: it takes those of a batch.
    """
    torch.manual_seed(1)
    task = setting.dataset.task
    teacher = network(setting.pair.teacher, task).to(setting.device).train()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    x_BCHW = setting.dataset.train.take(slice(0, 64)).images().to(setting.device) / 255
    with torch.no_grad():
        teacher(normalise(x_BCHW, task.mean, task.std))
    return teacher.eval().requires_grad_(False)


def network(name: str, task: Task) -> nn.Module:
    """A CIFAR ResNet by its name in the field's tables, as timm builds it."""
    depth, _, factor = name.partition("x")
    sizes = {
        "depths": ((int(depth) - 2) // 6,) * 3,
        "widths": tuple(width * int(factor or 1) for width in (16, 32, 64)),
    }
    found: nn.Module = timm_models.create_model("cifar_resnet", num_classes=task.classes, **sizes)
    return found


class Photos(torch.utils.data.Dataset[tuple[Any, ...]]):
    """Images as PIL hands them to a transform, with their labels and, where asked for, their numbers."""

    def __init__(self, split: Split, transform: Any, *, numbered: bool = False) -> None:
        self.x_NHWC, self.labels = split.x_NHWC, split.y_N.tolist()
        self.transform, self.numbered = transform, numbered

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = self.transform(Image.fromarray(self.x_NHWC[index]))
        return (image, self.labels[index], index) if self.numbered else (image, self.labels[index])


def field_transform(task: Task) -> Any:
    """What RepDistiller, mdistiller and torchdistill do to a training image of CIFAR."""
    return transforms.Compose([*_crop_and_flip(), transforms.ToTensor(), transforms.Normalize(task.mean, task.std)])


def _crop_and_flip() -> list[Any]:
    return [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]


def plain_loader(setting: Setting) -> DataLoader[tuple[Any, ...]]:
    """Batches as RepDistiller's loader makes them."""
    photos = Photos(setting.dataset.train, field_transform(setting.dataset.task), numbered=True)
    sampler = RandomSampler(photos, num_samples=ENDLESS)
    workers = min(WORKERS["plain"], setting.workers)
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
        num_workers=min(WORKERS["timm"], setting.workers),
        device=torch.device(setting.device),
        use_multi_epochs_loader=True,
    )
    # Its own crops are ImageNet's, resized; here everyone augments alike.
    loader.dataset.transform = transforms.Compose([*_crop_and_flip(), transforms.PILToTensor()])
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


def distillation_box(student: nn.Module, teacher: nn.Module, setting: Setting) -> Any:
    """torchdistill's box, configured as in its CIFAR-100 examples of knowledge distillation."""
    read = {
        f"{who}_module_{what}": v for who in ("student", "teacher") for what, v in (("path", "."), ("io", "output"))
    }
    kd = {"key": "KDLoss", "kwargs": {**read, "temperature": TEMPERATURE, "alpha": 1 - ALPHA, "reduction": "batchmean"}}
    workers = min(WORKERS["torchdistill"], setting.workers)
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


def ours(setting: Setting, *, cached: bool) -> Turn:
    """Turns of our own: each is a training from its start, through the public path, timed between its steps."""
    teacher = as_teacher(teacher_of(setting), setting.dataset.task)
    dataset = one_epoch(setting.dataset, (setting.warmup + setting.steps) * setting.batch_size)
    spec = setting.spec.model_copy(update={"view_cache": "auto" if cached else "off"})
    ends = (setting.warmup, setting.warmup + setting.steps)

    def once() -> tuple[float, Progress]:
        student = student_of(setting)
        with step_times(ends, setting.device) as times:
            *_, last = train(student, dataset, spec, teacher=teacher, cache=setting.home if cached else None)
        return times[1] - times[0], last

    def turn() -> float:
        seconds, last = once()
        if cached and last.cached != 1.0:
            share = "none" if last.cached is None else f"{last.cached:.0%}"
            sys.exit(
                f"{setting.pair}: the view cache had {share} of the answers; is there room in {setting.home.parent}?"
            )
        return seconds

    if cached:
        once()  # asks the teacher; every later training shows the same views
    return turn


def as_teacher(model: nn.Module, task: Task) -> Teacher:
    """A network as one of our teachers, normalised as the student is."""
    return Teacher("teacher", model, task.classes, task.in_chans, task.mean, task.std, None, fingerprint(model))


def one_epoch(dataset: Dataset, images: int) -> Dataset:
    """As many images as a turn shows, so that its training has one epoch; and few to evaluate on at its end."""
    rows_N = np.arange(images) % len(dataset.train)
    few = dataset.selection.take(slice(0, SELECTION_IMAGES))
    return replace(dataset, train=dataset.train.take(rows_N), selection=few, sha256=f"{dataset.sha256}/{images}")


@contextmanager
def step_times(ends: Sequence[int], device: str) -> Iterator[list[float]]:
    """The times in seconds when an optimizer's steps of these numbers were done, and the device with them."""
    times: list[float] = []
    done = 0

    def look(*_: Any) -> None:
        nonlocal done
        done += 1
        if done in ends:
            synchronise(device)
            times.append(time.perf_counter())

    hook = register_optimizer_step_post_hook(look)
    try:
        yield times
    finally:
        hook.remove()


def floor(setting: Setting) -> Loop:
    """The student's bare step."""
    layout: Any = torch.channels_last
    student, task = student_of(setting).to(memory_format=layout), setting.dataset.task
    optimizer = make_optimizer(student.parameters(), setting.spec, "sgd")
    for group in optimizer.param_groups:
        group["lr"] = SGD["lr"]
    batches = feed(one_epoch(setting.dataset, setting.batch_size), setting.spec, setting.device, Group())
    shown = next(iter(batches.epoch(0, 0)))
    x_BCHW = normalise(shown.x_BCHW, task.mean, task.std)
    run: Any = torch.compile(student) if setting.device == "cuda" else student

    def step() -> None:
        with autocast(setting.precision, setting.device):
            logits_BK = run(x_BCHW)
        torch.autograd.backward(cross_entropy(logits_BK.float(), shown.y))
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


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(package: str) -> str | None:
    """A package's version, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine(device: str, precision: Precision) -> Machine:
    return Machine(
        device=torch.cuda.get_device_name() if device == "cuda" else device,
        precision=resolve(precision, device),
        threads=torch.get_num_threads(),
        cores=cores(),
        torch=torch.__version__,
        timm=installed("timm"),
        torchdistill=installed("torchdistill"),
    )


def show(report: Report, *, peers: bool) -> None:
    where = report.machine
    print(f"{where.device}, {where.precision}, {where.threads} threads, {where.cores} cores; {report.images}")
    print(f"torch {where.torch}, timm {where.timm}, torchdistill {where.torchdistill or 'not installed'}")
    for each in report.rows:
        print(f"\n{each.pair}, batch {each.batch_size}, {each.steps} steps a turn")
        print(f"{'':<14}{'images/s':>10}{'ms/step':>10}{'vs plain':>10}{'vs best peer':>14}{'over floor':>12}")
        for name, speed in each.speeds.items():
            ratios = asdict(each.ratios[name]) if name in each.ratios else {}
            print(f"{name:<14}{speed.images_per_s:>10.1f}{speed.step_ms:>10.1f}{_told(ratios)}")
    print()
    for name, suffix in ((ONLINE, "_online"), (CACHED, "")):
        print(f"{name + ', median':<34}{_told({ratio: report.summary[ratio + suffix] for ratio in RATIOS})}")
    if peers and where.torchdistill is None:
        print("torchdistill took no part, it is not installed: pip install torchdistill")


def _told(ratios: Mapping[str, float | None]) -> str:
    widths = zip(RATIOS, (10, 14, 12), strict=True)
    return "".join(
        f"{'–' if (value := ratios[name]) is None else f'{value:.2f}':>{width}}" for name, width in widths if ratios
    )


if __name__ == "__main__":
    main()
