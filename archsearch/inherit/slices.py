"""A smaller network's weights, cut out of a larger one's of the same family."""

# G groups, g channels of each, N channels of a stream

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Axis, Groups, Layout, Unsliceable, counted

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Whole:
    """The network that is cut, and what is known of it.

    Attributes:
        state: Its tensors by name.
        importance: Of the channels of each stream, by the stream's root.
        order: Of each stage, the blocks in the order in which they are kept.
    """

    state: Mapping[str, Tensor]
    layout: Layout
    importance: Mapping[str, Tensor]
    order: tuple[tuple[int, ...], ...]

    def kept(self, stage: int, depth: int) -> tuple[int, ...]:
        """Which of a stage's blocks are kept where so many are, first to last."""
        return tuple(sorted(self.order[stage][:depth]))


@dataclass(frozen=True)
class Cut:
    """What came of it.

    Attributes:
        exact: Whether nothing was left out.
        strangers: Tensors that read what the whole's do not, because a stage is missing before them; they are noise.
        passing: Shortcuts that the whole does without; they pass on the channels that are kept.
    """

    exact: bool
    strangers: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()


def cut(whole: Whole, model: nn.Module, layout: Layout) -> Cut:
    """Give a network the part of a larger one's weights that its sizes leave room for.

    Every stream keeps its most important channels, in their order, the same ones in all layers; every stage its most
    influential blocks.

    Args:
        model: Of the same family, no larger in anything; its weights are overwritten.
        layout: Its own.

    Raises:
        Unsliceable: It is larger somewhere, or in another way other.
    """
    import torch

    scissors = Scissors(whole, layout)
    state = model.state_dict()
    exact, strangers, passing = state.keys() == whole.state.keys(), list[str](), set[str]()
    with torch.no_grad():
        for name, value in state.items():
            if scissors.named(name) is None:
                passing.add(name.rpartition(".")[0])
                value.copy_(scissors.passing_on(name, value))
                continue
            tensor = scissors.cut(name, value)
            if tensor is None:
                strangers.append(name)
                continue
            if tensor.shape != value.shape:
                raise Unsliceable(
                    f"{name} is {tuple(value.shape)}, and what is left of its teacher's {tuple(tensor.shape)}"
                )
            exact = exact and whole.state[name].shape == value.shape
            value.copy_(tensor)
        for name in passing:
            _undo_epsilon(model.get_submodule(name))
    return Cut(exact and not strangers and not passing, tuple(strangers), tuple(sorted(passing)))


def chosen(importance_N: Tensor, count: int, groups: Groups | None = None, into: Groups | None = None) -> Tensor:
    """The numbers of the most important channels, in their order; of equals the first.

    Args:
        groups: How the channels are convolved; whole groups are kept, and of each as many channels.
        into: How those that are kept are.
    """
    import torch

    if groups is None or into is None or groups.size == 1:
        best = torch.argsort(importance_N, descending=True, stable=True)[:count]
        return best.sort().values
    by_group_Gg = importance_N.reshape(groups.count, groups.size)
    # What a group is worth are those of its channels that there is room for.
    ranked_Gg, places_Gg = by_group_Gg.sort(dim=1, descending=True, stable=True)
    worth_G = ranked_Gg[:, : into.size].sum(dim=1)
    rows_G = torch.argsort(worth_G, descending=True, stable=True)[: into.count].sort().values
    within_Gg = places_Gg[rows_G, : into.size].sort(dim=1).values
    return (rows_G[:, None] * groups.size + within_Gg).flatten()


class Scissors:
    """What cuts tensors for one smaller network.

    Attributes:
        blocks: The whole's names of its blocks.
        into: How streams are grouped in it, by the stream's root in the whole.
    """

    def __init__(self, whole: Whole, layout: Layout) -> None:
        self.whole, self.layout = whole, layout
        self.blocks = _blocks(whole, layout)
        self.into = {self.root(stream): groups for stream, groups in layout.groups.items()}
        self._require_same_shortcuts()

    def cut(self, name: str, value: Tensor) -> Tensor | None:
        """What becomes of a tensor of the smaller network; None where the whole's reads or writes another stream."""
        axes, source = self.layout.axes[name], self.renamed(name)
        theirs = self.whole.layout.axes[source]
        if any(self._is_other(own, other) for own, other in zip(axes, theirs, strict=True)):
            return None
        tensor = self.whole.state[source]
        if len(axes) > 1 and axes[0] is not None and axes[1] is not None and axes[1].within:
            return self._grouped(axes[0], tensor, value.shape)
        for dim, (axis, size) in enumerate(zip(axes, value.shape, strict=True)):
            if axis is not None:
                tensor = tensor.index_select(dim, self.entries(axis, size, tensor.shape[dim]).to(tensor.device))
        return tensor

    def named(self, name: str) -> str | None:
        """The whole's tensor that one of the smaller network's comes of; None where it has none."""
        found = self.renamed(name)
        return found if found in self.whole.layout.axes else None

    def outputs(self, name: str, size: int) -> Tensor:
        """The whole's tensor that one comes of, with those entries of its first dimension that are kept."""
        return self.rows(name, self.whole.state[self.renamed(name)], size)

    def rows(self, name: str, tensor: Tensor, size: int) -> Tensor:
        """Of a tensor with the whole's outputs along its first dimension, those that are kept."""
        axis = self.layout.axes[name][0]
        return (
            tensor if axis is None else tensor.index_select(0, self.entries(axis, size, len(tensor)).to(tensor.device))
        )

    def inputs(self, name: str, size: int) -> Tensor | None:
        """Which of the inputs of the whole's layer are kept; None where it reads another stream."""
        source = self.renamed(name)
        axis, theirs = self.layout.axes[name][1], self.whole.layout.axes[source][1]
        if axis is None or self._is_other(axis, theirs):
            return None
        return self.entries(axis, size, self.whole.state[source].shape[1])

    def root(self, stream: str) -> str:
        """The root in the whole of one of the smaller network's streams."""
        return self.whole.layout.rooted(self.renamed(stream))

    def renamed(self, name: str) -> str:
        """A tensor's or a stream's name in the whole: that of its block, if it is in one."""
        for own, other in self.blocks.items():
            if name.startswith((own + ".", own + "/")):
                return other + name[len(own) :]
        return name

    def entries(self, axis: Axis, size: int, whole_size: int) -> Tensor:
        """Which entries of the whole's are kept along a dimension that has so many in the smaller network."""
        import torch

        channels = counted(axis, whole_size)
        kept = self._channels(axis, counted(axis, size))
        once = (kept[:, None] * axis.unit + torch.arange(axis.unit)).flatten()
        return torch.cat([once + lap * channels * axis.unit for lap in range(axis.repeat)])

    def passing_on(self, name: str, value: Tensor) -> Tensor:
        """A shortcut that the whole does without, for its two ends are the same channels there: it selects."""
        import torch

        if value.ndim == 0:
            return value
        axes = self.layout.axes[name]
        one_stream = len({self.root(axis.stream) for axis in axes if axis is not None}) == 1
        if name.rpartition(".")[0] not in self.layout.shortcuts or not one_stream:
            raise Unsliceable(f"its teacher has no {name}")
        if value.ndim == 1:
            ones = name.endswith(("weight", "running_var"))
            return torch.full_like(value, 1.0 if ones else 0.0)
        out, into = (self._channels(axis, size) for axis, size in zip(axes[:2], value.shape[:2], strict=True) if axis)
        return (out[:, None] == into[None, :]).to(value).reshape(value.shape)

    def _require_same_shortcuts(self) -> None:
        """Raise Unsliceable where streams are added up that the whole keeps apart, or the other way round."""
        layout, theirs = self.layout, self.whole.layout
        for stream, other in layout.root.items():
            if self.root(stream) != self.root(other):
                raise Unsliceable(
                    f"{stream} and {other} are added up, which its teacher keeps apart: one of them is to be narrower"
                )
        found = {axis.stream for axes in layout.axes.values() for axis in axes if axis is not None}
        passed = [layout.axes[f"{name}.weight"] for name in layout.shortcuts]
        joined = [{axis.stream for axis in axes if axis is not None} for axes in passed]
        for stream, other in theirs.root.items():
            apart = {stream, other} <= found and layout.rooted(stream) != layout.rooted(other)
            if apart and {stream, other} not in joined:
                raise Unsliceable(f"{stream} and {other} are of different widths, and its teacher adds them up")

    def _is_other(self, own: Axis | None, theirs: Axis | None) -> bool:
        if own is None or theirs is None:
            return own is not theirs
        if own.within != theirs.within:
            raise Unsliceable(f"{own.stream} is convolved in groups on one side alone")
        return self.root(own.stream) != self.whole.layout.rooted(theirs.stream)

    def _channels(self, axis: Axis, count: int) -> Tensor:
        """Which channels of a stream are kept where so many are."""
        root = self.root(axis.stream)
        importance_N = self.whole.importance.get(root)
        groups, into = self.whole.layout.groups.get(root), self.into.get(root)
        if importance_N is None:
            raise Unsliceable(f"its teacher has no {axis.stream}")
        if count > len(importance_N):
            raise Unsliceable(f"{axis.stream} would have {count} channels, its teacher's has {len(importance_N)}")
        if groups is not None and (into is None or into.count > groups.count or into.size > groups.size):
            raise Unsliceable(f"the groups that {axis.stream} is convolved in are no part of its teacher's")
        return chosen(importance_N, count, groups, into)

    def _grouped(self, axis: Axis, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """A grouped convolution's weights O×(I/G)×…: of each group that is kept, rows and columns of its channels."""
        import torch

        count, size = shape[:2]
        rows_O = self._channels(axis, count).to(tensor.device)
        picked = tensor.index_select(0, rows_O)
        if size == tensor.shape[1]:
            return picked
        columns_Gg = (rows_O % tensor.shape[1]).reshape(-1, size)
        columns_Og = columns_Gg.repeat_interleave(size, dim=0)
        spread = columns_Og.reshape(count, size, *[1] * (tensor.ndim - 2)).expand(count, size, *tensor.shape[2:])
        return torch.gather(picked, 1, spread)


def _undo_epsilon(module: nn.Module) -> None:
    """Make a batch norm of mean 0 and variance 1 pass on exactly what it is given."""
    seen: Any = module
    if hasattr(seen, "running_var"):
        seen.weight.fill_((1.0 + seen.eps) ** 0.5)


def _blocks(whole: Whole, layout: Layout) -> dict[str, str]:
    """The whole's names of a smaller network's blocks; raises Unsliceable where it has more of them."""
    found: dict[str, str] = {}
    for number, stage in enumerate(layout.stages):
        theirs = whole.layout.stages[number] if number < len(whole.layout.stages) else ()
        if len(stage) > len(theirs):
            raise Unsliceable(f"stage {number + 1} would have {len(stage)} blocks, its teacher's has {len(theirs)}")
        found |= dict(zip(stage, (theirs[i] for i in whole.kept(number, len(stage))), strict=True))
    return found
