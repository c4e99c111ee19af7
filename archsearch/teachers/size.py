"""What a teacher takes, estimated before it is built or asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archsearch.data.batches import Effort, effort, require_room
from archsearch.data.shape import Shape
from archsearch.data.task import Task
from archsearch.device import where
from archsearch.errors import InvalidRequest

if TYPE_CHECKING:
    from torch import nn

    from archsearch.domains.domain import Teacher


# Arguments that say how many modules there are, by parts of their names.
_COUNTS = ("depth", "layers", "blocks", "repeats", "num_stages")
# Beyond every network of timm, whose deepest have some hundreds of blocks.
_MOST_MODULES = 2048
# So many are built in no time, and which tensors are missing says more than how many.
_FEW_MODULES = 128
# What kernels hold for themselves comes on top of what tensors do.
_KERNELS = 1.5


def check_counts(args: Mapping[str, Any], field: str, *, tensors: int | None = None) -> None:
    """Raise InvalidRequest for arguments that ask for more modules than a network has; needs no torch.

    Args:
        tensors: How many the weights' file holds: every module has one at least.
    """
    for name, value in args.items():
        if not any(part in name for part in _COUNTS):
            continue
        asked = _total(value)
        if asked > _MOST_MODULES:
            raise InvalidRequest(
                f"{asked:,} blocks are more than any network has ({_MOST_MODULES:,})", field=f"{field}.{name}"
            )
        if tensors is not None and asked > max(tensors, _FEW_MODULES):
            raise InvalidRequest(
                f"{asked:,} blocks do not go with weights of {tensors:,} tensors; every block has one at least",
                field=f"{field}.{name}",
            )


def _total(value: Any) -> float:
    """The sum of the whole numbers in an argument, however deep its lists are."""
    if isinstance(value, list | tuple):
        return sum(_total(each) for each in value)
    return abs(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def require_weights_fit(sketch: nn.Module, name: str) -> None:
    """Raise TooMuchMemory unless there is room for a network built on the meta device, tables it derives included."""
    held = sum(value.nbytes for value in (*sketch.parameters(), *sketch.buffers()))
    # Once as the network and once as it is read from the file.
    require_room(2 * held, f"{name} with these arguments", field="model_args", fix="give smaller sizes")


def require_one_fits(teacher: Teacher, task: Task) -> None:
    """Raise TooMuchMemory where the teacher cannot look at a single example of its size; nothing is computed."""
    one = input_bytes(teacher.model, teacher.shape(task))
    if one is not None:
        require_room(
            _KERNELS * one,
            f"one of {teacher.told(task)}",
            field="input_size",
            fix="give a smaller input_size",
            device=where(teacher.model),
        )


def input_bytes(model: nn.Module, shape: Shape, *, count: int = 1, graph: bool = False) -> int | None:
    """Bytes of activations, counted on the meta device; None for a network that does not run there.

    Args:
        count: Examples looked at together.
        graph: Whether what a backward pass would need is kept.
    """
    found = input_effort(model, shape, count=count, graph=graph)
    return None if found is None else found.bytes


def input_effort(model: nn.Module, shape: Shape, *, count: int = 1, graph: bool = False) -> Effort | None:
    """Bytes and multiply-accumulates; as above."""
    import torch
    from torch.func import functional_call

    state = {
        name: value.detach().to("meta").requires_grad_(graph and value.requires_grad)
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }
    x = shape.empty(count)
    try:
        with torch.set_grad_enabled(graph):
            found = effort(lambda: functional_call(model, state, (x,)))
    except (RuntimeError, AssertionError, NotImplementedError):  # it looks at values, or does not take this size
        return None
    return Effort(found.bytes + x.nbytes, found.macs)
