"""A student as its training begins, the same wherever the training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.request import Architecture
from archsearch.spaces import Space
from archsearch.whole import write_whole

if TYPE_CHECKING:
    from torch import nn


def begun(space: Space, architecture: Architecture, task: Task, seed: int, kept: Path) -> nn.Module:
    """The network with the weights its training begins with.

    Args:
        kept: Where weights that are not noise are kept: they are fitted, and another machine would fit them a little
            otherwise, and not go on from a checkpoint of this one.
    """
    import torch
    from safetensors.torch import load_file, save

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if space.start == "scratch":
            return space.begin(architecture, task)
        if not kept.is_file():
            state = space.begin(architecture, task).state_dict()
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, save({name: value.contiguous() for name, value in state.items()}))
        model = space.build(architecture, task)
        model.load_state_dict(load_file(kept))
        return model
