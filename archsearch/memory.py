"""How much memory there is, and how much of it tensors take."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# What is believed where neither /proc nor the C library tells.
_USUAL_BYTES = 8 * 2**30
_MEMINFO, _OWN_GROUPS, _CGROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


# glibc's mallopt: blocks from so many bytes on are given back one by one, and of the rest what is beyond so many.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 2**25), (-1, 2**29)


def keep_freed() -> None:
    """Keep what is freed for the next tensor, up to half a gigabyte, instead of giving it back at once.

    Networks take and free the same maps again and again; each time the system clears every page anew, which is a tenth
    to a fifth of a pass on a processor. For processes of our own: whoever imports us has their own mind about memory.
    Nothing happens where the C library is another.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(name, value)


def machine_bytes() -> int:
    """Memory of this machine, or of the container this process is in."""
    return min([_physical_bytes(), *(limit for limit, _ in _cgroups())])


def available_bytes() -> int:
    """Memory that could be taken now: what the system calls available, and what the container's limit leaves."""
    left = [limit - used for limit, used in _cgroups()]
    return max(0, min([_meminfo().get("MemAvailable", _physical_bytes()), *left]))


def gigabytes(size_bytes: float) -> str:
    """`2.5 GB`, for messages."""
    return f"{size_bytes / 1e9:.2g} GB" if size_bytes < 1e10 else f"{size_bytes / 1e9:,.0f} GB"


def _physical_bytes() -> int:
    if "MemTotal" in (found := _meminfo()):
        return found["MemTotal"]
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _USUAL_BYTES


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; nothing where there is none."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}


def _cgroups() -> Iterator[tuple[int, int]]:
    """Limit and use, in bytes, of every control group with a limit that this process is in (versions 2 and 1)."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, inside = line.split(":", 2)
        if controllers == "":
            yield from _upwards(_CGROUPS, inside, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _upwards(_CGROUPS / "memory", inside, *names)


def _upwards(root: Path, inside: str, limit: str, usage: str, cache: str) -> Iterator[tuple[int, int]]:
    """A group and those it is in: each one's limit holds. In a container the first may not be in sight."""
    folder = root / inside.strip("/")
    while folder.is_relative_to(root):
        with suppress(OSError, ValueError):  # no limit is "max"
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield most, used - int(stat.get(cache, 0))  # files' pages are dropped when room is needed
        folder = folder.parent


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes alive at one time of all tensors that `run` makes; those it finds are not counted.

    On any device, the meta device included. Where gradients are recorded, what the graph keeps is alive.
    """
    mode = live_bytes()
    with mode:
        run()
    peak: int = mode.peak
    return peak


def live_bytes() -> Any:
    """A dispatch mode that counts the bytes of storages from when an operation makes them until nobody holds them."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.now = self.peak = 0
            self.seen: dict[int, int] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # What comes in and was made by none of these operations was there before.
            self._note(tree_leaves((args, kwargs)), counts=False)
            made = func(*args, **(kwargs or {}))
            self._note(tree_leaves(made), counts=True)
            return made

        def _note(self, values: list[Any], *, counts: bool) -> None:
            for value in values:
                if not isinstance(value, Tensor) or (storage := _storage(value)) is None:
                    continue
                address = storage._cdata
                if address not in self.seen:
                    self.seen[address] = storage.nbytes() if counts else 0
                    self.now += self.seen[address]
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._forget, address)

        def _forget(self, address: int) -> None:
            self.now -= self.seen.pop(address, 0)

    return LiveBytes()


def _storage(tensor: Tensor) -> Any:
    """Where a tensor's values lie; None of those that have no such place, as sparse ones and those of oneDNN."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
