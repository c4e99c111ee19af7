"""Batches made before they are asked for, by torch's loader and as many processes as a machine has to spare.

What a batch holds depends on its rows alone, so it is the same with any number of processes, and none of them keeps
anything a training would have to go on from.
"""

# B batch, C channels, H W space

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archsearch.device import cores
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.task import Images

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Ints = npt.NDArray[np.int64]

_MOST_WORKERS = 16
# Batches each process has ready.
_READY = 2
# Cores of a processor that trains for each one that decodes.
_CORES_EACH = 8
# Where processes hand tensors to one another; containers often have 64 MiB of it.
_SHARED = Path("/dev/shm")
_SHARED_SHARE = 0.5


def ahead(
    images: Any, rows: Sequence[Ints], device: str | torch.device, workers: int, batch_bytes: int
) -> Iterator[Tensor]:
    """What `images.__getitems__` makes of the rows of each batch, in order.

    Args:
        workers: Processes; 0 makes each batch when it is asked for.
        batch_bytes: Of one of them.
    """
    import torch
    from torch.utils.data import DataLoader

    shared = workers == 0 or _has_room((_READY * workers + 1) * batch_bytes)
    handed: Any = torch.from_numpy if shared else _as_it_is
    loader: Any = DataLoader(
        images,
        batch_sampler=[row_B.tolist() for row_B in rows],
        num_workers=workers,
        collate_fn=handed,
        pin_memory=torch.device(device).type == "cuda",
        prefetch_factor=_READY if workers else None,
        generator=torch.Generator(),  # its own: the networks' numbers are none of a loader's business
    )
    for found in loader:
        yield found if isinstance(found, torch.Tensor) else torch.from_numpy(found)


class Decoded:
    """Images as they are, uint8 B×H×W×C, as torch's loader asks for them."""

    def __init__(self, split: FileSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, rows: list[int]) -> npt.NDArray[np.uint8]:
        return self.split.decoded(np.asarray(rows, np.int64))


def workers_for(split: Images, device: str | torch.device, changed: bool = False) -> int:
    """Processes that prepare images: beside a CPU that trains on all its cores only those that have files to decode.

    Args:
        changed: Whether images are changed so much that cores which training leaves are worth a process each.
    """
    import torch

    there = cores()
    if torch.device(device).type != "cpu":
        return min(_MOST_WORKERS, there)
    if not isinstance(split, FileSplit):
        return min(_MOST_WORKERS, max(0, there - torch.get_num_threads())) if changed else 0
    return min(_MOST_WORKERS, max(1, there - torch.get_num_threads(), there // _CORES_EACH))


def _as_it_is(found: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return found


def _has_room(size_bytes: int) -> bool:
    """Whether processes can hand so much to one another in shared memory; else it goes through their pipes."""
    return _SHARED.is_dir() and size_bytes < _SHARED_SHARE * shutil.disk_usage(_SHARED).free
