"""The processes that train together, one a device; a single one where nobody started more."""

from __future__ import annotations

from dataclasses import dataclass

from archsearch.distill.amount import amount
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec


@dataclass(frozen=True)
class Group:
    """`size` processes, of which this is number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reports, evaluates and writes."""
        return self.rank == 0

    def share(self, start: int, count: int) -> slice:
        """This process's part of `count` consecutive things from `start` on."""
        each = count // self.size
        return slice(start + self.rank * each, start + (self.rank + 1) * each)


def current(spec: DistillSpec) -> Group:
    """The group torch.distributed runs in this process, if any; raises InvalidRequest where the batch does not part."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return Group()
    group = Group(dist.get_rank(), dist.get_world_size())
    batch_size = amount(spec).batch_size
    if batch_size % group.size:
        raise InvalidRequest(
            f"{batch_size} does not part into {group.size} processes; take a multiple", field="distill.batch_size"
        )
    return group
