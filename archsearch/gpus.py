"""The GPUs of this machine by their numbers, told without torch: a service starts a worker on each."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from archsearch.errors import InvalidRequest

ALL = "all"
_FIELD, _PATIENCE_S = "gpus", 30.0


def chosen(text: str, there: Sequence[str] | None = None) -> list[str]:
    """The numbers `--gpus` means: `all`, or some with commas between; raises InvalidRequest for those not there.

    Args:
        there: The GPUs there are, as `visible` tells them.
    """
    named = [part.strip() for part in text.split(",")]
    if text.strip() != ALL and not all(re.fullmatch(r"\d{1,3}", part) for part in named):
        raise InvalidRequest(f"{text!r} names no GPUs; give all, or numbers such as 0,1", field=_FIELD)
    there = visible() if there is None else there
    if not there:
        raise InvalidRequest("nvidia-smi lists no GPU here; leave it out to work on this processor", field=_FIELD)
    if text.strip() == ALL:
        return list(there)
    numbers = [str(int(part)) for part in dict.fromkeys(named)]
    if absent := [number for number in numbers if number not in there]:
        raise InvalidRequest(f"there is no GPU {', '.join(absent)} here, but {', '.join(there)}", field=_FIELD)
    return list(dict.fromkeys(numbers))


def visible() -> list[str]:
    """Numbers of the GPUs, as nvidia-smi counts them, that CUDA_VISIBLE_DEVICES leaves to this process."""
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        told = subprocess.run(command, text=True, capture_output=True, timeout=_PATIENCE_S)
    except FileNotFoundError:
        raise InvalidRequest(
            "there is no nvidia-smi to tell this machine's GPUs by; leave it out: one worker then computes on what "
            "torch finds",
            field=_FIELD,
        ) from None
    except subprocess.TimeoutExpired:
        raise InvalidRequest(
            f"nvidia-smi says nothing for {_PATIENCE_S:g} s; is the driver well?", field=_FIELD
        ) from None
    if told.returncode:
        first = next(iter((told.stderr or told.stdout).splitlines()), f"it ended with {told.returncode}")
        raise InvalidRequest(f"nvidia-smi tells no GPUs: {first}", field=_FIELD)
    there = [line.strip() for line in told.stdout.splitlines() if line.strip().isdecimal()]
    left = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = None if left is None else [part.strip() for part in left.split(",")]
    # GPUs may be named by what identifies them, too; those are left to whoever named them.
    if named is None or not all(part.isdecimal() for part in named if part):
        return there
    return [number for number in there if number in named]


def environment(gpu: str | None) -> Mapping[str, str]:
    """What a process is told for it to see one GPU and no other, by nvidia-smi's number."""
    if gpu is None:
        return {}
    return {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
