"""Where networks are computed: what a request's `device` may say, and what that means on this machine.

Devices that a network's latency is measured on are another matter: those are `archsearch.hardware.devices`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archsearch.errors import InvalidRequest, TooMuchMemory

if TYPE_CHECKING:
    import torch
    from torch import nn

# What GPUs are to torch.
ACCELERATOR = "cuda"
# Of the strings a request may have: whatever is there, the processor, the first GPU that is seen, one by its number.
PATTERN = r"^(auto|cpu|cuda(:\d{1,2})?)$"


def check_name(value: str) -> str:
    """The name itself; raises ValueError, in words, where it is none."""
    if not re.fullmatch(PATTERN, value):
        raise ValueError(
            f"{value[:60]!r} is no device to compute on; take auto, cpu, cuda, or a GPU by its number, such as cuda:1"
        )
    return value


def checked(value: str, *, field: str = "device") -> str:
    """As above; raises InvalidRequest."""
    try:
        return check_name(value)
    except ValueError as error:
        raise InvalidRequest(str(error), field=field) from None


def kind(device: str | torch.device) -> str:
    """`cpu` or `cuda`, whichever of its kind it is; needs no torch."""
    return str(device).partition(":")[0]


def resolve(name: str, *, field: str = "device") -> str:
    """What a request's device is on this machine: `cpu`, `cuda` or `cuda:1`.

    Raises:
        InvalidRequest: A GPU is asked for that is not there; it names those that are.
    """
    if name == "cpu":
        return name
    gpus = _gpus()
    if name == "auto":
        return ACCELERATOR if gpus else "cpu"
    _, _, number = name.partition(":")
    if not gpus:
        raise InvalidRequest("torch finds no GPU here; take cpu or auto", field=field)
    if number and int(number) >= gpus:
        there = ", ".join(f"cuda:{i}" for i in range(gpus))
        raise InvalidRequest(f"there is no {name} here, but {there}; take one of those, cpu or auto", field=field)
    return f"cuda:{int(number)}" if number else name


def here() -> dict[str, str]:
    """Every device of this machine that torch computes on, and what it is called."""
    import torch

    return {"cpu": "", **{f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(_gpus())}}


def cores() -> int:
    """Cores of the processor that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(name: str) -> str:
    """What a request's device is on this machine, for people: `cuda (NVIDIA H100, GPU 1)`."""
    import os

    found = resolve(name)
    if kind(found) == "cpu":
        return found
    import torch

    told, number = [torch.cuda.get_device_name(found)], os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"{found} ({', '.join([*told, f'GPU {number}'] if number else told)})"


def alike(device: str | torch.device) -> str:
    """What tells a device's numbers from another's: those of a processor, or of a GPU by its model's name."""
    import torch

    return kind(device) if kind(device) != "cuda" else f"cuda {torch.cuda.get_device_name(device)}"


def where(model: nn.Module) -> torch.device:
    """The device a network's weights lie on; of one without weights the processor."""
    import torch

    found = next(model.parameters(), None)
    return torch.device("cpu") if found is None else found.device


def put_on(model: nn.Module, device: str, what: str) -> None:
    """Move a network to a device; raises TooMuchMemory where it has no room for the weights alone."""
    import torch

    try:
        model.to(device)
    except torch.OutOfMemoryError:
        model.to("cpu")
        raise TooMuchMemory(
            f"the {what}'s weights do not fit into the memory of {device}; compute elsewhere, such as device cpu",
            field="device",
        ) from None


def on_cpu(model: nn.Module) -> nn.Module:
    """A network to be written down: itself, or, where it lies elsewhere, a copy; whoever computes with it goes on."""
    import copy

    return model if kind(where(model)) == "cpu" else copy.deepcopy(model).cpu()


def seed(device: str | torch.device, number: int) -> None:
    """As torch.manual_seed for a device and the processor alone, which does not look for others: that takes a tenth of
    a millisecond."""
    import torch

    torch.default_generator.manual_seed(number)
    if kind(device) == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
