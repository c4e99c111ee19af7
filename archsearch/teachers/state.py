"""The tensors of a checkpoint, by name, whatever they were wrapped in; nothing but tensors is ever unpickled."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.errors import TeacherError
from archsearch.teachers.foreign import describe_bytes, kind_of

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]

# Where trainers put a network's weights, the likeliest first; averaged weights come last, for not all keep them.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "model_state", "weights", "params", "module",
    "teacher", "student", "encoder", "backbone", "state_dict_ema", "model_ema", "ema_state_dict", "ema",
)  # fmt: skip
# What lies beside a network in a checkpoint and is none.
_NO_NETWORKS = re.compile(r"optim|sched|scaler|^lr|amp|rng|loops|callbacks")
# Written by training frameworks around a network's own names, the outermost first.
_PREFIX = re.compile(r"^(?:_orig_mod|module|model|net|network|backbone|encoder|student|teacher|_forward_module|ema)\.")
# Counters that profilers leave among the weights, and the second head of an Inception, which only trains.
_IDLE = re.compile(r"(?:^|\.)total_(?:ops|params)$|^(?:module\.)?AuxLogits\.")
_DEEPEST = 4


@dataclass(frozen=True)
class Checkpoint:
    """The network found in a file.

    Attributes:
        key: Where in the file it lies (`state_dict`, `ema.model`); empty where the file is nothing else.
        others: Further networks in the same file, by where they lie.
        tensors: Values by name, as they stand in the file.
    """

    key: str
    others: tuple[str, ...]
    tensors: State


def read_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """The network in a safetensors file or a PyTorch checkpoint; raises TeacherError telling what else it is.

    Args:
        key: Where in the file it lies, if there is more than one.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        return Checkpoint("", (), _read_safetensors(path))
    if kind not in ("torch", "pickle"):
        raise TeacherError(f"{path.name} is {describe_bytes(kind)}", field="file")
    found = dict(_networks(_unpickle(path)))
    if not found:
        raise TeacherError(f"{path.name} holds no tensors by name; save model.state_dict()", field="file")
    if key is not None and key not in found:
        raise TeacherError(f"{path.name} has no network at {key!r}; it has {', '.join(map(repr, found))}", field="key")
    taken = min(found, key=_rank) if key is None else key
    return Checkpoint(taken, tuple(name for name in found if name != taken), found[taken])


def spellings(tensors: State) -> Iterator[tuple[str, State]]:
    """The same weights under names a network may know them by, each with what was taken off; the plainest first."""
    plain = {name: value for name, value in tensors.items() if not _IDLE.search(name)}
    yield "", plain
    taken = ""
    while heads := {match[0] for name in plain if (match := _PREFIX.match(name))}:
        # Of several the one that most names have; what has none (a head beside its backbone) stays as it is.
        prefix = max(sorted(heads), key=lambda each: sum(name.startswith(each) for name in plain))
        inside = {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}
        beside = {name: value for name, value in plain.items() if not name.startswith(prefix)}
        taken += prefix
        if beside and not inside.keys() & beside.keys():
            yield taken, {**inside, **beside}
        yield taken, inside
        plain = inside


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise TeacherError(f"{path.name} is not a whole safetensors file ({error})", field="file") from None


def _unpickle(path: Path) -> Any:
    """What torch reads of a checkpoint without running any of its code."""
    import torch

    try:
        # A trainer's settings: a Namespace is attributes and nothing else.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles other than its own, which it reads or refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise TeacherError(_why_not(path.name, str(error)), field="file") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise TeacherError(f"{path.name} is not a whole PyTorch checkpoint ({first_line})", field="file") from None


def _why_not(name: str, told: str) -> str:
    save = "load it where it was made and save the tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    named = re.search(r"(?:GLOBAL |global |class )`?([\w.]+)", told)
    if named is None:
        return f"{name} holds more than tensors, and unpickling that can run code; {save}"
    return f"{name} holds {named[1]} objects, which only running their code could rebuild; {save}"


def _networks(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Every mapping of names to tensors inside, with where it lies."""
    import torch

    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return
    tensors = {name: each for name, each in value.items() if isinstance(name, str) and isinstance(each, torch.Tensor)}
    if tensors and 2 * len(tensors) > len(value):
        yield key, tensors
    for name, each in value.items():
        if isinstance(name, str) and not _NO_NETWORKS.search(name):
            yield from _networks(each, f"{key}.{name}" if key else name, depth + 1)


def _rank(key: str) -> tuple[int, int, str]:
    """Lowest for where a network most likely lies."""
    if not key:
        return 0, 0, ""
    places = [_WRAPPERS.index(part) if part in _WRAPPERS else len(_WRAPPERS) for part in key.split(".")]
    return 1, max(places), key
