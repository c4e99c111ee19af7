"""The state of an interrupted training, as one safetensors file: weights, optimizer, epoch and what it belongs to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def save(path: Path, model: nn.Module, optimizer: Optimizer, epoch: int, identity: str) -> None:
    """Write atomically, so that a crash leaves the previous checkpoint whole.

    Args:
        epoch: Epochs finished.
        identity: What the training is of (settings, data, teacher, initial weights); a checkpoint of anything else is
            not resumed.
    """
    from safetensors.torch import save_file
    from torch import Tensor

    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{i}.{name}"] = value.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"checkpoint": json.dumps({"epoch": epoch, "identity": identity})})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def resume(path: Path, model: nn.Module, optimizer: Optimizer, identity: str) -> int:
    """Load a checkpoint of this very training into model and optimizer; returns the epochs finished, 0 without one."""
    from safetensors import safe_open

    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()["checkpoint"])
        if meta["identity"] != identity:
            return 0
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, object]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, field = name.split(".")
            state.setdefault(int(i), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(meta["epoch"])
