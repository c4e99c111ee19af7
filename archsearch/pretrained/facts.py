"""What is known of a network with weights before anybody loads them: how it is built, shown images, and what it costs.

Finding out takes torch, and is kept in a file; whoever has no torch reads that.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from archsearch import domains
from archsearch.bounded import Tell
from archsearch.domains.images.task import ImageTask
from archsearch.errors import ArchsearchError
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.pretrained.count import counted
from archsearch.pretrained.head import batch_norms
from archsearch.pretrained.stored import Stored, at_hand
from archsearch.spaces import Count, Recipe
from archsearch.whole import read_kept, write_whole
from archsearch.zoos.timm import build

# Raise it when the same network would be told of otherwise.
_VERSION = 2


@dataclass(frozen=True)
class Facts:
    """A network with weights as a task of some size sees it.

    Attributes:
        architecture: timm's name, without a tag; `args` are what it takes beside classes and channels.
        stock: Whether timm alone builds it, without this package.
        mean, std: Of pixels in 0-1, as the weights were trained.
        input_size: Channels, height and width they were trained at.
        licence: As timm's configuration has it, if it says.
        optimizer: What it learns best with: transformers and their kin, which have no batch norm, with AdamW.
        count: What the network is made of with the task's classes, channels and size.
    """

    architecture: str
    args: Mapping[str, Any]
    stock: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, ...]
    licence: str | None
    optimizer: Literal["sgd", "adamw"]
    count: Count

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.architecture, self.args, self.stock)


def facts(stored: Stored, task: ImageTask, cache: Path | None) -> Facts | str:
    """What is known of a network, or why it is none for such a task; found out now where nobody did before."""
    found = kept(stored, task, cache)
    if found is None:
        try:
            found = _found_out(stored, task)
        except ArchsearchError as error:
            found = error.detail
        except NETWORK_FAILURES as error:
            found = f"it cannot be built for {domains.of(task).told(task)}: {reason_of(error)}"
        _keep(stored, task, cache, found)
    return found


def kept(stored: Stored, task: ImageTask, cache: Path | None) -> Facts | str | None:
    """The same where it was found out before; None else. Needs no torch."""
    body = None if cache is None else read_kept(_path(stored, task, cache))
    if not isinstance(body, dict):
        return None
    if "refuses" in body:
        return str(body["refuses"])
    lists = {name: tuple(value) for name, value in body.items() if isinstance(value, list)}
    count: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in body["count"].items()}
    return Facts(**{**body, **lists, "count": Count(**count)})


def find_out(tell: Tell, *, folder: str | None, cache: str, task: dict[str, Any]) -> Any:
    """Have the facts of all networks at hand found out and kept, in a process of its own; returns how many there are.

    Args:
        folder: As `ARCHSEARCH_PRETRAINED_DIR` names it.
        task: As its domain reads it.
    """
    asked: Any = domains.read_task(task)
    stored = at_hand(None if folder is None else Path(folder))
    for done, one in enumerate(stored, 1):
        facts(one, asked, Path(cache))
        tell({"done": done, "of": len(stored)})
    return len(stored)


def unknown(stored: Sequence[Stored], task: ImageTask, cache: Path) -> list[Stored]:
    """Those of which nobody has found out anything at this size."""
    return [one for one in stored if kept(one, task, cache) is None]


def _found_out(stored: Stored, task: ImageTask) -> Facts:
    import timm
    import torch

    from archsearch.teachers.pretrained import configured

    known = configured(stored.source)
    config: Mapping[str, Any] = {**known.config, **stored.config}
    args = {name: value for name, value in {**known.args, **stored.args}.items() if name not in _OF_THE_TASK}
    if config.get("fixed_input_size"):
        args["img_size"] = [task.height, task.width]
    with torch.device("meta"):
        model = build(known.architecture, args, task)
    module = timm.model_entrypoint(known.architecture).__module__
    return Facts(
        architecture=known.architecture,
        args=args,
        stock=not module.startswith("archsearch."),
        mean=tuple(config.get("mean") or (0.5,)),
        std=tuple(config.get("std") or (0.5,)),
        input_size=tuple(config.get("input_size") or (3, 224, 224)),
        licence=config.get("license"),
        optimizer="sgd" if batch_norms(model) else "adamw",
        count=counted(model, domains.of(task).shape(task)),
    )


_OF_THE_TASK = ("num_classes", "in_chans", "img_size")


def _keep(stored: Stored, task: ImageTask, cache: Path | None, found: Facts | str) -> None:
    if cache is None:
        return
    cache.mkdir(parents=True, exist_ok=True)
    body = {"refuses": found} if isinstance(found, str) else asdict(found)
    write_whole(_path(stored, task, cache), json.dumps(body))


def _path(stored: Stored, task: ImageTask, cache: Path) -> Path:
    """Everything the facts depend on, in a file's name."""
    at = stored.weights.stat()
    sizes = [task.classes, *domains.of(task).shape(task).sizes]
    given = [stored.source, dict(stored.args), dict(stored.config), at.st_size, at.st_mtime_ns]
    parts = [_VERSION, importlib.metadata.version("timm"), given, sizes]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return cache / f"pretrained-{digest}.json"
