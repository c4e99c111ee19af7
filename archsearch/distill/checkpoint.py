"""The state of a training: taken in memory to fall back on, and kept as one safetensors file to go on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.distill.state import TrainState
from archsearch.whole import put_in_place

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Everything a training changes.

    Attributes:
        student: The network.
        adapters: The losses' own modules.
        average: The averaged student, where weights are averaged.
        scaler: torch's gradient scaler, which does nothing but in fp16.
    """

    student: nn.Module
    adapters: nn.Module
    optimizer: Optimizer
    average: nn.Module | None
    scaler: Any

    @property
    def _modules(self) -> dict[str, nn.Module]:
        named = {"student": self.student, "adapters": self.adapters}
        return named if self.average is None else {**named, "average": self.average}


def take(parts: Parts) -> dict[str, Tensor]:
    """A copy of every tensor, on the CPU."""
    from torch import Tensor

    found = {
        f"{name}/{key}": _copy(value)
        for name, module in parts._modules.items()
        for key, value in module.state_dict().items()
    }
    for i, state in parts.optimizer.state_dict()["state"].items():
        found |= {f"optimizer/{i}/{key}": _copy(value) for key, value in state.items() if isinstance(value, Tensor)}
    for key, value in parts.scaler.state_dict().items():
        found[f"scaler/{key}"] = _number(value)
    return found


def put_back(parts: Parts, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `take`."""
    for name, module in parts._modules.items():
        prefix = f"{name}/"
        module.load_state_dict({key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)})
    state: dict[int, dict[str, Tensor]] = {}
    trained = [weight for group in parts.optimizer.param_groups for weight in group["params"]]
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, i, field = key.split("/")
            state.setdefault(int(i), {})[field] = _laid_out_like(trained[int(i)], value)
    parts.optimizer.load_state_dict({"state": state, "param_groups": parts.optimizer.state_dict()["param_groups"]})
    scaler = parts.scaler.state_dict()
    if scaler:
        found = {key: tensors[f"scaler/{key}"].item() for key in scaler}
        parts.scaler.load_state_dict({key: type(scaler[key])(value) for key, value in found.items()})


def save(path: Path, tensors: Mapping[str, Tensor], state: TrainState, identity: str) -> None:
    """Write atomically, so that a crash leaves the previous checkpoint whole.

    Args:
        identity: What the training is of (settings, data, teacher, initial weights); a checkpoint of anything else is
            not resumed.
    """
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    # "course": what it has been called since the first checkpoints, which are still gone on from.
    meta = {"checkpoint": json.dumps({"course": asdict(state), "identity": identity})}
    try:
        save_file(dict(tensors), partial, metadata=meta)
        put_in_place(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)  # on a full disk it would be in its own way
        raise


def load(path: Path, identity: str) -> tuple[dict[str, Tensor], TrainState] | None:
    """The checkpoint of this very training, or None where there is none."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["checkpoint"])
            if meta["identity"] != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        log.warning("%s cannot be read (%s): the training starts anew", path, error)
        return None
    return tensors, TrainState(**meta["course"])


def identity(path: Path) -> str | None:
    """What training a checkpoint is of; None where there is none that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return str(json.loads((file.metadata() or {})["checkpoint"])["identity"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def tensors(path: Path) -> dict[str, Tensor]:
    """What a checkpoint holds, whatever training it is of; names as `take` gives them."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = load_file(path)
    return found


def _copy(value: Tensor) -> Tensor:
    """In plain memory, since safetensors keeps no other; loaded back it takes the layout of what it is loaded into."""
    import torch

    return value.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)


def _laid_out_like(weight: Tensor, value: Tensor) -> Tensor:
    """A copy in the weight's own memory layout: fused optimizers walk through both side by side.

    load_state_dict takes an optimizer's tensors over as they are, so it has to be a copy too.
    """
    import torch

    if value.shape != weight.shape:  # a count of steps
        return value.clone()
    return torch.empty_like(weight, dtype=value.dtype, device=value.device).copy_(value)


def _number(value: float) -> Tensor:
    import torch

    return torch.tensor(value, dtype=torch.float64)
