"""Libraries that networks come from. Adding one is adding a file or folder with `build`, and a line to the table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archsearch.data.task import Task
from archsearch.errors import UnknownName

if TYPE_CHECKING:
    from torch import nn

# Each module has `build(name, args, task)`: the untrained network on torch's current default device, with an answer
# for each of the task's classes. They are imported when a network is asked for.
ZOOS: Mapping[str, str] = {"timm": "archsearch.zoos.timm", "transformers": "archsearch.zoos.transformers.network"}


def build(zoo: str, name: str, args: Mapping[str, Any], task: Task) -> nn.Module:
    """A network by its library's own name for it and the arguments this takes."""
    if zoo not in ZOOS:
        raise UnknownName("zoo", zoo, ZOOS)
    network: nn.Module = importlib.import_module(ZOOS[zoo]).build(name, args, task)
    return network
