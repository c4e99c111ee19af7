"""A device that is not there: its tensors say that they lie elsewhere, and this processor computes on them.

It shows, on any machine, what a GPU would: that what lies on the processor meets what does not, how often the processor
waits for the device, and what becomes of work that finds its memory full. Numbers are the processor's own, to the bit.

    with Elsewhere(limit_bytes=2**20) as device:
        ...  # torch.device(device.name) is there
    assert device.waits == []
"""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "elsewhere"
_OPS = torch.ops.aten

_there: list[Any] = []
# What brings numbers to the processor, or makes it wait for how large a result is.
_WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "unique_dim", "bincount",
    "equal", "repeat_interleave",
}  # fmt: skip
# What moves values from one device to another.
_MOVES = {"_to_copy", "copy_", "_copy_from"}


def missing() -> str | None:
    """Why there is no such device here; None where there is. It rests on what torch calls experimental."""
    from torch.utils import backend_registration

    there = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
    return None if there else f"torch {torch.__version__} has no backends in Python"


class Far(Tensor):
    """A tensor of the device; what it holds lies in `near`."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor, index: int = 0) -> Far:
        made: Far = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            layout=near.layout,
            device=torch.device(NAME, index),
        )
        made.near = near
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"Far({self.near!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor that lies elsewhere, outside `with Elsewhere()`")


class Elsewhere(TorchDispatchMode):  # type: ignore[misc]
    """The device while it is there.

    Attributes:
        waits: What the processor waited for, in order, by the names of operations.
        held_bytes: Of tensors that are alive there; `peak_bytes` is the most there were.
        limit_bytes: More than so many are not to be had: torch.OutOfMemoryError, as a GPU raises it.
        full: How often that was raised.
    """

    name = NAME

    def __init__(self, limit_bytes: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        register()
        self.limit_bytes = limit_bytes
        self.waits: list[str] = []
        self.held_bytes = self.peak_bytes = self.full = 0
        self._held: dict[int, int] = {}

    def __enter__(self) -> Any:
        _there.append(self)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        _there.remove(self)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        there = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        target = kwargs.get("device")
        to_far = target is not None and torch.device(target).type == NAME
        if not to_far and not any(isinstance(value, Far) for value in there):
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled():  # where what is made of other operations is not taken apart before
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        name = func._schema.name.split("::")[-1]
        far = to_far or (target is None and self._is_far(name, args, there))
        self._check(func, name, there)
        if name in _WAITS or (name in _MOVES and self._crosses(name, args, far)):
            self.waits.append(name)
        if name == "index" and any(_is_mask(each) for each in args[1] if each is not None):
            self.waits.append("index by a mask")
        if target is not None:
            kwargs["device"] = torch.device("cpu") if to_far else target
        made = func(*tree_map(_near, args), **tree_map(_near, kwargs))
        if not far:
            return made
        made = tree_map(self._far, made)
        return return_and_correct_aliasing(func, args, kwargs, made) if there else made

    def _is_far(self, name: str, args: Any, there: list[Tensor]) -> bool:
        if name in ("copy_", "_copy_from"):
            return isinstance(args[0], Far)
        return True

    def _crosses(self, name: str, args: Any, far: bool) -> bool:
        source = args[1] if name == "copy_" else args[0]
        return isinstance(source, Far) != far

    def _check(self, func: Any, name: str, there: list[Tensor]) -> None:
        """Raise where an operation is given tensors of two devices, as any GPU's kernels do; single numbers may come
        from the processor."""
        if name in _MOVES or name in ("index", "index_put_", "_index_put_impl_", "set_"):
            return
        near = [value for value in there if not isinstance(value, Far) and value.ndim]
        if near and len(near) < len(there):
            raise RuntimeError(f"{func} is given tensors on two devices, {NAME} and cpu, of {tuple(near[0].shape)}")

    def _far(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.layout == torch.strided:
            self._hold(value.untyped_storage())
        return Far(value)

    def _hold(self, storage: Any) -> None:
        address = storage._cdata
        if address in self._held:
            return
        size = storage.nbytes()
        if self.limit_bytes is not None and self.held_bytes + size > self.limit_bytes:
            self.full += 1
            raise torch.OutOfMemoryError(f"{NAME} out of memory: {size} bytes more than {self.held_bytes}")
        self._held[address] = size
        self.held_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.held_bytes -= self._held.pop(address, 0)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value


def _is_mask(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.bool, torch.uint8)


class _Module:
    """What torch asks of a device's own module."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Its random numbers are the processor's."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@cache
def register() -> None:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, _Module())
    # What torch.tensor(…, device=…) asks past every mode.
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in (
        ("empty.memory_format", _empty),
        ("empty_strided", _empty_strided),
        ("_copy_from", _copy_from),
    ):
        library.impl(name, kernel, "PrivateUse1")
    _kept.append(library)


_kept: list[Any] = []


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
    near = torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format)
    return Far(near)


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return Far(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    for one in _there:
        one.waits.append("torch.tensor")
    _near(target).copy_(_near(source))
    return target
