"""How fast a student is distilled: our trainings beside the tools others use, and beside the bare step.

    python -m benchmarks.distill_speed [--data ../shared/data] [--device cuda] [--json FILE]
                                       [--pairs 56:20 32x4:8x4] [--batches 64 512] [--rounds 5] [--no-peers]

Knowledge distillation (0.1·CE + 0.9·T²·KL, T=4) with the crops and flips of the field's CIFAR tables, 32×32, 100 classes:

    plain          a research loop: torchvision's transforms on PIL images, fp32, the teacher asked in every step
                   (what RepDistiller's helper/loops.py and mdistiller's engine/trainer.py do for a step)
    timm           timm's LogitDistillationTask and loader, with the step of its train.py and its defaults
    timm amp       the same with --amp --amp-dtype bfloat16 --channels-last
    timm compiled  on CUDA: the same with --torchcompile too
    torchdistill   its DistillationBox with the criterion and loader of its CIFAR-100 examples, and their step
    ours online    archsearch.distill.train.train, precision `auto`, without the view cache
    ours cached    the same, every view answered by an earlier training: the cache is warm
    floor          forward, cross-entropy, backward and optimizer of the student on one resident batch, augmented and
                   normalised before; our precision, memory format and optimizer; on CUDA compiled, as one captured graph

All are in one process and take turns, because a machine that others use is a noisy one. In each of the rounds everyone
does a few steps as a warm-up, then as many as everyone else while time is taken. A step has all that is done for it:
loading, augmentation, teacher, student, optimizer, what the loop reports of it. Left out is what comes once a training
or an epoch: building, starting workers, compiling, evaluation, checkpoints. Of the rounds the median counts; `vs plain`,
`vs best peer` and `over floor` (floor's images/s over ours) are medians of the rounds' own ratios, where the best peer is
the fastest of timm's and torchdistill's in that round.

What is in the others' favour: their workers stay alive and their epochs never end, so nobody waits for a first batch;
they have as many workers as their authors recommend (RepDistiller 8, timm 4, torchdistill 16), but no more than there
are cores. Their loaders fill up while others have their turn: the warm-up uses that up where loading is what a step
waits for, and elsewhere they are as full at the end of a turn as at its start.

torchdistill 1.1 keeps no teacher's answers. Its releases before 1.0 kept one an image, which is right without
augmentation only, so it could not take part. CIFAR ResNets have the stem of the first stage's width here: ResNet-32x4
and ResNet-8x4 begin with 64 channels, RepDistiller's with 32. All contestants train the same networks. The teacher is not
trained, which changes no time. Without --data the images are noise.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.task import LogitDistillationTask
from timm.utils import AverageMeter, accuracy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.data.task import Dataset, Split, Task
from archsearch.distill.feed import feed
from archsearch.distill.group import Group
from archsearch.distill.schedule import make_optimizer
from archsearch.distill.train import Progress, train
from archsearch.precision import Precision, autocast, resolve
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, fingerprint, normalise
from benchmarks.cifar import load_cifar

# B batch, C channels, H W space, K classes, N images

ALPHA, TEMPERATURE = 0.9, 4.0
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
# What the authors of a loop recommend; nobody has more than there are cores.
WORKERS = {"plain": 8, "timm": 4, "torchdistill": 16}
STEPS = {"cpu": 10, "cuda": 200}
STEPS_AT = 64  # the batch size for which that is said
NOISE_IMAGES = 4096
# A loader shuffles again and again; no measurement comes this far.
ENDLESS = 10**9
SELECTION_IMAGES = 64

PLAIN, ONLINE, CACHED, FLOOR = "plain", "ours online", "ours cached", "floor"
OURS = (ONLINE, CACHED)


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
        workers: Most a loader may have; None is the number of cores.
        warmup, steps: Of a turn, untimed and timed.
        home: Where the view cache may be.
    """

    pair: Pair
    batch_size: int
    dataset: Dataset
    device: str
    precision: Precision
    workers: int | None
    warmup: int
    steps: int
    home: Path

    @property
    def spec(self) -> DistillSpec:
        """The published training as we are asked for it; the length of one turn."""
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
    """Of one of our trainings; None where there are no peers."""

    vs_plain: float
    vs_best_peer: float | None
    over_floor: float


@dataclass(frozen=True)
class Row:
    """One pair at one batch size; ratios by which of our trainings."""

    pair: str
    batch_size: int
    steps: int
    speeds: Mapping[str, Speed]
    ratios: Mapping[str, Ratios]


@dataclass(frozen=True)
class Machine:
    """Where it was measured; versions are None for what is not installed."""

    device: str
    precision: str
    threads: int
    cores: int
    torch: str
    timm: str | None
    torchdistill: str | None


@dataclass(frozen=True)
class Report:
    """All settings; `summary` has the medians of their ratios, those of `ours online` with a suffix."""

    summary: Mapping[str, float | None]
    machine: Machine
    images: str
    rows: tuple[Row, ...]


# A turn: the seconds its timed steps took.
Turn = Callable[[], float]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="ours and the floor's")
    parser.add_argument("--data", type=Path, help="the folder with CIFAR-100; without it the images are noise")
    parser.add_argument("--pairs", nargs="+", type=parse_pair, default=[Pair("56", "20"), Pair("32x4", "8x4")])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--steps", type=int, help=f"timed in a turn at batch {STEPS_AT}; larger batches do fewer")
    parser.add_argument("--warmup", type=int, help="untimed steps at the start of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, help="most a loader may have; the number of cores where not given")
    parser.add_argument("--no-peers", action="store_true", help="without timm and torchdistill")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    dataset, images = load_images(arguments.data)
    with tempfile.TemporaryDirectory() as home:
        settings = [
            Setting(
                pair=pair,
                batch_size=batch_size,
                dataset=dataset,
                device=arguments.device,
                precision=arguments.precision,
                workers=arguments.workers,
                warmup=arguments.warmup or (1 if arguments.device == "cpu" else 2 * cores() + 8),
                steps=max(1, (arguments.steps or STEPS[arguments.device]) * STEPS_AT // max(STEPS_AT, batch_size)),
                home=Path(home) / f"{pair.teacher}-{pair.student}-{batch_size}",
            )
            for pair in arguments.pairs
            for batch_size in arguments.batches
        ]
        rows = tuple(measure(setting, arguments.rounds, peers=not arguments.no_peers) for setting in settings)
    report = Report(summarise(rows), machine(arguments.device, arguments.precision), images, rows)
    show(report, peers=not arguments.no_peers)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


def parse_pair(text: str) -> Pair:
    """A pair as `56:20` or `32x4:8x4`; raises argparse's error for what names no CIFAR ResNet."""
    teacher, colon, student = text.partition(":")
    for name in (teacher, student):
        found = re.fullmatch(r"(\d+)(x[1-9]\d*)?", name)
        if not colon or found is None or int(found[1]) < 8 or int(found[1]) % 6 != 2:
            raise argparse.ArgumentTypeError(f"{text!r} is no TEACHER:STUDENT of depths 8, 14, 20, … as in 32x4:8x4")
    return Pair(teacher, student)


def load_images(folder: Path | None) -> tuple[Dataset, str]:
    """The images and what they are."""
    if folder is not None:
        dataset = load_cifar(folder, 100)
        return dataset, f"CIFAR-100, {len(dataset.train)} images"
    generator = np.random.default_rng(0)
    x_NHWC = generator.integers(0, 256, (NOISE_IMAGES, 32, 32, 3), np.uint8)
    split = Split(x_NHWC, generator.integers(0, 100, NOISE_IMAGES))
    few = split.take(slice(0, SELECTION_IMAGES))
    return Dataset(Task(100, 3, 32, 32, (0.5,) * 3, (0.29,) * 3), split, few, few, "noise"), f"{NOISE_IMAGES} of noise"


def measure(setting: Setting, rounds: int, *, peers: bool) -> Row:
    """All contestants in turns."""
    turns, close = contestants(setting, peers=peers)
    times: dict[str, list[float]] = {name: [] for name in turns}
    title = f"{setting.pair}, batch {setting.batch_size}"
    console = Console(stderr=True)
    try:
        for _ in track(range(rounds), title, console=console, disable=not sys.stderr.isatty()):
            for name, turn in turns.items():
                # RepDistiller, timm and torchdistill all let cuDNN choose by trial; our trainings do not.
                torch.backends.cudnn.benchmark = name not in OURS
                times[name].append(turn())
    finally:
        torch.backends.cudnn.benchmark = False
        close()
    return row(setting, times)


def contestants(setting: Setting, *, peers: bool) -> tuple[dict[str, Turn], Callable[[], None]]:
    """Who takes part, in the order of their turns, and what ends them all."""
    loops = {PLAIN: plain(setting)}
    if peers:
        loops |= {"timm": timm_loop(setting), "timm amp": timm_loop(setting, amp=True)}
        if setting.device == "cuda":
            loops["timm compiled"] = timm_loop(setting, amp=True, compiled=True)
        if installed("torchdistill"):
            loops["torchdistill"] = torchdistill_loop(setting)
    ending = {FLOOR: floor(setting)}
    turns = {name: turn_of(loop, setting) for name, loop in loops.items()}
    turns |= {name: ours(setting, cached=name == CACHED) for name in OURS}
    turns |= {name: turn_of(loop, setting) for name, loop in ending.items()}

    def close() -> None:
        for loop in (*loops.values(), *ending.values()):
            loop.close()
        torch.compiler.reset()

    return turns, close


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
    mine, peers = rounds[name], [each for peer, each in rounds.items() if peer not in (PLAIN, FLOOR, *OURS)]
    best = [max(each) for each in zip(*peers, strict=True)]
    return Ratios(
        vs_plain=median(a / b for a, b in zip(mine, rounds[PLAIN], strict=True)),
        vs_best_peer=median(a / b for a, b in zip(mine, best, strict=True)) if best else None,
        over_floor=median(b / a for a, b in zip(mine, rounds[FLOOR], strict=True)),
    )


def summarise(rows: Sequence[Row]) -> dict[str, float | None]:
    """Medians over the settings."""
    found: dict[str, float | None] = {}
    for name, suffix in ((CACHED, ""), (ONLINE, "_online")):
        for ratio in ("vs_plain", "vs_best_peer", "over_floor"):
            values = [value for each in rows if (value := getattr(each.ratios[name], ratio)) is not None]
            found[ratio + suffix] = median(values) if values else None
    return found


def turn_of(loop: Iterator[None], setting: Setting) -> Turn:
    """A turn of a loop that yields after every step and goes on where it was."""

    def turn() -> float:
        steps_done(loop, setting.warmup, setting.device)
        started = time.perf_counter()
        steps_done(loop, setting.steps, setting.device)
        return time.perf_counter() - started

    return turn


def steps_done(loop: Iterator[None], steps: int, device: str) -> None:
    """So many steps, until the device is done with them."""
    for _ in islice(loop, steps):
        pass
    synchronise(device)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def networks(setting: Setting) -> tuple[nn.Module, nn.Module]:
    """The student in train mode and the teacher in eval mode, the same weights for everyone, on the device."""
    torch.manual_seed(0)
    classes = setting.dataset.task.classes
    teacher, student = (network(name, classes) for name in (setting.pair.teacher, setting.pair.student))
    x_BCHW = setting.dataset.train.take(slice(0, 64)).images().float() / 255
    _settle(teacher, normalise(x_BCHW, setting.dataset.task.mean, setting.dataset.task.std))
    return student.to(setting.device).train(), teacher.to(setting.device).eval().requires_grad_(False)


def network(name: str, classes: int) -> nn.Module:
    """A CIFAR ResNet by its name in the field's tables, as timm builds it."""
    depth, _, factor = name.partition("x")
    widths = tuple(width * int(factor or 1) for width in (16, 32, 64))
    found: nn.Module = timm.create_model(
        "cifar_resnet", depths=((int(depth) - 2) // 6,) * 3, widths=widths, num_classes=classes
    )
    return found


def _settle(teacher: nn.Module, x_BCHW: Tensor) -> None:
    """Take the batch's statistics for the running ones: with those it is born with, a deep network's answers explode."""
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        teacher.train()(x_BCHW)


class Photos(torch.utils.data.Dataset[tuple[Any, ...]]):
    """Images as PIL gives them to a transform, with their labels and, where asked for, their numbers."""

    def __init__(self, split: Split, transform: Callable[[Any], Any] | None, *, numbered: bool = False) -> None:
        self.x_NHWC, self.labels = split.x_NHWC, split.y_N.tolist()
        self.transform, self.numbered = transform, numbered

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image: Any = Image.fromarray(self.x_NHWC[index])
        image = image if self.transform is None else self.transform(image)
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
    return DataLoader(
        photos, batch_size=setting.batch_size, sampler=sampler, num_workers=workers_of("plain", setting.workers)
    )


def plain(setting: Setting) -> Iterator[None]:
    """A research loop, with the bookkeeping its authors do in every step."""
    student, teacher = networks(setting)
    optimizer = torch.optim.SGD(student.parameters(), **SGD)
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    for x_BCHW, y_B, index_B in plain_loader(setting):
        x_BCHW, y_B = x_BCHW.float().to(setting.device), y_B.to(setting.device)
        index_B.to(setting.device)
        logits_BK = student(x_BCHW)
        with torch.no_grad():
            teacher_BK = teacher(x_BCHW)
        loss = research_loss(logits_BK, teacher_BK, y_B)
        acc1, acc5 = accuracy(logits_BK, y_B, topk=(1, 5))
        losses.update(loss.item(), len(y_B))
        top1.update(acc1.item(), len(y_B))
        top5.update(acc5.item(), len(y_B))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        yield


def research_loss(logits_BK: Tensor, teacher_BK: Tensor, y_B: Tensor) -> Tensor:
    """(1−α)·CE + α·T²·KL(teacher ‖ student), as the field's code spells Hinton et al. 2015, section 2."""
    log_s_BK, t_BK = log_softmax(logits_BK / TEMPERATURE, dim=1), softmax(teacher_BK / TEMPERATURE, dim=1)
    distance = kl_div(log_s_BK, t_BK, reduction="sum") * TEMPERATURE**2 / len(logits_BK)
    return (1 - ALPHA) * cross_entropy(logits_BK, y_B) + ALPHA * distance


def timm_task(student: nn.Module, teacher: nn.Module, device: str) -> LogitDistillationTask:
    """timm's own task; student and teacher have the same normalisation, which it finds out in every step."""
    return LogitDistillationTask(
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
    """timm's loader: uint8 batches from the workers, normalised on the device; its own option against ends of epochs."""
    task = setting.dataset.task
    loader = create_loader(
        Photos(setting.dataset.train, None),
        input_size=(3, 32, 32),
        batch_size=setting.batch_size,
        is_training=True,
        mean=task.mean,
        std=task.std,
        num_workers=workers_of("timm", setting.workers),
        device=torch.device(setting.device),
        use_multi_epochs_loader=True,
    )
    # timm has resized crops for ImageNet and no crop with a border: the same augmentation for everyone.
    loader.dataset.transform = transforms.Compose([*_crop_and_flip(), transforms.PILToTensor()])
    return loader


def timm_loop(setting: Setting, *, amp: bool = False, compiled: bool = False) -> Iterator[None]:
    """The step of timm's train.py; `amp` with bfloat16 and channels-last, as its flags say."""
    student, teacher = networks(setting)
    if amp:
        student, teacher = (m.to(memory_format=torch.channels_last) for m in (student, teacher))  # type: ignore[call-overload]
    task = timm_task(student, teacher, setting.device)
    optimizer = create_optimizer_v2(student, opt="sgd", **SGD)
    if compiled:
        task.compile()
    loader, losses = timm_loader(setting), AverageMeter()
    task.train()
    while True:
        for x_BCHW, y_B in loader:
            if amp:
                x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
            with torch.autocast(setting.device, torch.bfloat16, enabled=amp):
                loss = task(x_BCHW, y_B)["loss"]
            torch.autograd.backward(loss)
            optimizer.step()
            losses.update(loss.item(), len(y_B))
            optimizer.zero_grad()
            yield


def distillation_box(student: nn.Module, teacher: nn.Module, setting: Setting) -> Any:
    """torchdistill's box, configured as its CIFAR-100 examples of knowledge distillation are."""
    from torchdistill.core.distillation import get_distillation_box

    path = {f"{who}_module_{what}": value for who in ("student", "teacher") for what, value in _WHOLE_MODEL}
    kd = {"key": "KDLoss", "kwargs": {**path, "temperature": TEMPERATURE, "alpha": 1 - ALPHA}}
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler, "kwargs": {"num_samples": ENDLESS}},
            "kwargs": {
                "batch_size": setting.batch_size,
                "num_workers": workers_of("torchdistill", setting.workers),
                "pin_memory": setting.device == "cuda",
            },
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": dict(SGD)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}},
        },
    }
    photos = Photos(setting.dataset.train, field_transform(setting.dataset.task))
    return get_distillation_box(
        teacher, student, {"train": photos}, config, torch.device(setting.device), None, False, 1
    )


_WHOLE_MODEL = (("path", "."), ("io", "output"))


def torchdistill_loop(setting: Setting) -> Iterator[None]:
    """The step of torchdistill's examples/torchvision/image_classification.py, meters and checks included."""
    from torchdistill.misc.log import MetricLogger, SmoothedValue

    box = distillation_box(*networks(setting), setting)
    logger, device = MetricLogger(delimiter="  "), torch.device(setting.device)
    logger.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    logger.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
    box.pre_epoch_process(epoch=0)
    for x_BCHW, y_B, extra in logger.log_every(box.train_data_loader, 100, "Epoch: [0]"):
        started = time.time()
        x_BCHW, y_B = x_BCHW.to(device), y_B.to(device)
        loss = box.forward_process(x_BCHW, y_B, extra)
        box.post_forward_process(loss=loss)
        logger.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        logger.meters["img/s"].update(len(y_B) / (time.time() - started))
        if torch.isnan(loss) or torch.isinf(loss):
            raise ValueError(f"torchdistill's loss became {loss}")
        yield


def ours(setting: Setting, *, cached: bool) -> Turn:
    """A turn is a training of its own through the public path, from outside; time is taken between its steps."""
    _, network = networks(setting)
    task = setting.dataset.task
    teacher = Teacher(
        str(setting.pair), network, task.classes, task.in_chans, task.mean, task.std, None, fingerprint(network)
    )
    dataset = one_epoch(setting.dataset, (setting.warmup + setting.steps) * setting.batch_size)
    spec = setting.spec.model_copy(update={"view_cache": "auto" if cached else "off"})
    ends = frozenset({setting.warmup, setting.warmup + setting.steps})

    def once() -> tuple[float, Progress]:
        student, _ = networks(setting)
        with step_times(ends, setting.device) as times:
            *_, last = train(student, dataset, spec, teacher=teacher, cache=setting.home if cached else None)
        return times[1] - times[0], last

    def turn() -> float:
        seconds, last = once()
        if cached and last.cached != 1.0:
            share = "nothing" if last.cached is None else f"{last.cached:.0%}"
            sys.exit(
                f"{setting.pair}: the view cache had {share} of the answers; is there room in {setting.home.parent}?"
            )
        return seconds

    if cached:
        once()  # the first training asks the teacher; it shows the views that all later ones show
    return turn


def one_epoch(dataset: Dataset, images: int) -> Dataset:
    """As many images as a turn shows, so that its training has one epoch, and few to evaluate on at its end."""
    rows_N = np.arange(images) % len(dataset.train)
    few = dataset.selection.take(slice(0, SELECTION_IMAGES))
    return replace(dataset, train=dataset.train.take(rows_N), selection=few, sha256=f"{dataset.sha256}/{images}")


@contextmanager
def step_times(ends: frozenset[int], device: str) -> Iterator[list[float]]:
    """When as many steps of an optimizer were done as `ends` has numbers, in seconds, and the device with them."""
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


def floor(setting: Setting) -> Iterator[None]:
    """The student's bare step."""
    student, _ = networks(setting)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(student.parameters(), setting.spec, "sgd")
    for group in optimizer.param_groups:
        group["lr"] = SGD["lr"]
    batches = feed(one_epoch(setting.dataset, setting.batch_size), setting.spec, setting.device, Group())
    shown = next(batches.epoch(0, 0))
    x_BCHW = normalise(shown.x_BCHW, setting.dataset.task.mean, setting.dataset.task.std)
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
    """The step as one CUDA graph: capturing needs a stream of its own, and a few steps before to choose kernels."""
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_of(whose: str, most: int | None) -> int:
    return min(WORKERS[whose], cores() if most is None else most)


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
    print(
        f"{where.device}, {where.precision}, {where.threads} threads, {where.cores} cores, "
        f"torch {where.torch}, timm {where.timm}, torchdistill {where.torchdistill or 'not installed'}; {report.images}"
    )
    for each in report.rows:
        print(f"\n{each.pair}, batch {each.batch_size}, {each.steps} steps a turn")
        print(f"{'':<14}{'images/s':>10}{'ms/step':>10}{'vs plain':>10}{'vs best peer':>14}{'over floor':>12}")
        for name, speed in each.speeds.items():
            print(f"{name:<14}{speed.images_per_s:>10.0f}{speed.step_ms:>10.2f}{_told(each.ratios.get(name))}")
    if peers and where.torchdistill is None:
        print("\ntorchdistill is not installed and took no part: pip install torchdistill")
    print(f"\n{'median':<34}{_told(Ratios(**_of(report.summary, '')))}  {CACHED}")
    print(f"{'':<34}{_told(Ratios(**_of(report.summary, '_online')))}  {ONLINE}")


def _of(summary: Mapping[str, float | None], suffix: str) -> dict[str, Any]:
    return {name: summary[name + suffix] for name in ("vs_plain", "vs_best_peer", "over_floor")}


def _told(ratios: Ratios | None) -> str:
    if ratios is None:
        return ""
    best = "–" if ratios.vs_best_peer is None else f"{ratios.vs_best_peer:.2f}"
    return f"{ratios.vs_plain:>10.2f}{best:>14}{ratios.over_floor:>12.2f}"


if __name__ == "__main__":
    main()
