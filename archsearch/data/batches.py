"""How many images a network is asked about at once: as many as memory and patience allow, whatever the network."""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from archsearch.device import ACCELERATOR, kind
from archsearch.errors import TooMuchMemory
from archsearch.memory import available_bytes, gigabytes, live_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
# Called again and again by work that takes long, with whatever; it may raise, which ends the work.
Alive = Callable[..., None]

MOST = 256
# What one call may take: bytes, and multiply-accumulates, after which whoever waits is asked whether he still does.
# Constants first, since the batch should not follow what else the machine is doing.
_BYTES = {"cpu": 2**30, "cuda": 2**33}
_MACS = {"cpu": 2**34, "cuda": 2**42}
# Of what is free, a call may take so much; and what kernels hold for themselves comes on top of what tensors do.
_SHARE, _KERNELS = 0.25, 2.0


_ASK_EVERY_S = 1.0


def unasked(*at: object) -> None:
    """Nobody asks whether the work is still wanted."""


def now_and_then(ask: Callable[[], None]) -> Alive:
    """Asks about once a second, however often it is called."""
    asked_at = time.monotonic()

    def alive(*at: object) -> None:
        nonlocal asked_at
        if time.monotonic() - asked_at > _ASK_EVERY_S:
            asked_at = time.monotonic()
            ask()

    return alive


@dataclass(frozen=True)
class Effort:
    """What one image costs a network: bytes of tensors alive at one time, and multiply-accumulates."""

    bytes: int
    macs: int


def effort(run: Callable[[], object]) -> Effort:
    """What a call really takes, beside what was there before it."""
    from torch.utils.flop_counter import FlopCounterMode

    live, counter = live_bytes(), FlopCounterMode(display=False)
    with counter, live:
        run()
    return Effort(live.peak, counter.get_total_flops() // 2)


def fitting(one: Effort, most: int = MOST, *, device: str | torch.device = "cpu", steady: bool = False) -> int:
    """Images a call may take: `most` or, where one takes more than usual, a half, a quarter and so on of it.

    Args:
        steady: The same whatever is free: for what has to be the same to the bit.
    """
    where = "cpu" if kind(device) == "cpu" else ACCELERATOR
    room = _BYTES[where] if steady else min(_BYTES[where], _SHARE * free_bytes(device))
    size = most
    while size > 1 and (_KERNELS * one.bytes * size > room or one.macs * size > _MACS[where]):
        size = -(-size // 2)
    return size


def free_bytes(device: str | torch.device = "cpu") -> int:
    """Memory of a device that could be taken now."""
    if device == "cpu":  # known without torch, which whoever reads data need not import
        return available_bytes()
    import torch

    if kind(device) != "cuda":
        return available_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for later is free, too.
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def require_room(size_bytes: float, what: str, *, field: str, fix: str, device: str | torch.device = "cpu") -> None:
    """Raise TooMuchMemory, before anything is computed, where an estimate is beyond what there is."""
    free = free_bytes(device)
    if size_bytes > free:
        raise TooMuchMemory(
            f"{what} would take about {gigabytes(size_bytes)} of memory, and {gigabytes(free)} are free; {fix}",
            field=field,
        )


def asked(
    run: Callable[[Tensor], T],
    images: Callable[[slice], Tensor],
    count: int,
    *,
    most: int = MOST,
    report: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[slice, T]]:
    """A network's answers to `count` images, some at a time and in order, without gradients.

    The first image is asked about alone, to see what one takes; that decides how many the others are asked about at
    once. Where a device's memory runs out nevertheless, it is half as many from then on.

    Args:
        run: From images B×C×H×W in 0-1 to whatever is wanted of them.
        images: Those of some rows, in 0-1.
        most: Images at once, however small the network is.
        report: Called after every call with images done and images in all; it may raise.
    """
    import torch

    size = _first_size(run, images, min(most, count)) if count else 1
    start = 0
    while start < count:
        rows, found, full = slice(start, min(count, start + size)), None, False
        try:
            with torch.inference_mode():
                found = run(images(rows))
        except torch.OutOfMemoryError:
            full = True
        if full:  # out here, where the error no longer holds what filled the memory
            size = _halved(size)
            continue
        assert found is not None
        yield rows, found
        start = rows.stop
        if report:
            report(start, count)


def free_memory() -> None:
    """Give back what nothing refers to any more, and what torch keeps for later."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _halved(size: int) -> int:
    free_memory()
    if size == 1:
        raise TooMuchMemory("a single image takes more memory than there is; take smaller images or a smaller network")
    return -(-size // 2)


def _first_size(run: Callable[[Tensor], T], images: Callable[[slice], Tensor], most: int) -> int:
    """How many images to begin with, from what the first one takes."""
    import torch

    if most == 1:
        return 1
    kept: list[T] = []
    full = False
    with torch.inference_mode():
        first_1CHW = images(slice(0, 1))
        try:
            one = effort(lambda: kept.append(run(first_1CHW)))
        except torch.OutOfMemoryError:
            full = True
    if full:
        return _halved(1)
    one = Effort(one.bytes + first_1CHW.nbytes, one.macs)
    parts = kept[0].values() if isinstance(kept[0], Mapping) else (kept[0],)
    devices = {part.device for part in parts if isinstance(part, torch.Tensor)}
    return min((fitting(one, most, device=device) for device in devices), default=fitting(one, most))
