"""What of a network hangs together: which channels are one stream through many layers, and which blocks may go.

A student that is cut out of its teacher takes the same channels of a stream in every layer that writes or reads it. A
family's file says which those are, tensor by tensor; all that is done with them is written once, for every family.
"""

# B batch, O output channels, I input channels, T tokens

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archsearch.errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor, nn


class Unsliceable(InvalidRequest):
    """A network, or a part of one, of which no smaller one can be cut."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="distill.init")


@dataclass(frozen=True)
class Axis:
    """A dimension of a tensor along which the channels of a stream lie.

    Attributes:
        unit: Entries that belong to one channel together: the features of a head.
        repeat: How many times all the channels follow one another: query, key and value.
        within: Whether it holds the channels of one group alone (the input of a grouped convolution).
    """

    stream: str
    unit: int = 1
    repeat: int = 1
    within: bool = False


@dataclass(frozen=True)
class Reader:
    """A layer that reads a stream: what is important in the stream is what its readers make much of.

    Attributes:
        aside: Whether it has a say only where nobody else makes anything of a channel: it is too small a part of the
            network.
    """

    module: str
    axis: Axis
    aside: bool = False


@dataclass(frozen=True)
class Groups:
    """A stream whose channels are convolved in groups: so many, of so many channels each."""

    count: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A network's streams and blocks.

    Attributes:
        axes: Of every tensor of its state, by name; None for a dimension that is taken whole.
        readers: Of the streams.
        root: Streams that are the same channels under other names, because a shortcut adds them up.
        groups: Of streams that are convolved in groups, depthwise included, by their root.
        shortcuts: Modules that a larger network may do without where both their ends are one stream in it.
        stages: Names of the blocks of each stage, first to last. The first of a stage never goes.
        tokens: Which tokens of the examples it is shown are any, B×T; None where all are.
    """

    axes: Mapping[str, tuple[Axis | None, ...]]
    readers: tuple[Reader, ...]
    root: Mapping[str, str]
    groups: Mapping[str, Groups]
    shortcuts: frozenset[str]
    stages: tuple[tuple[str, ...], ...]
    tokens: Callable[[Tensor], Tensor] | None = None

    def rooted(self, stream: str) -> str:
        while stream in self.root:
            stream = self.root[stream]
        return stream


@dataclass
class Drawing:
    """A `Layout` under way; a family's file draws it layer by layer."""

    model: nn.Module
    axes: dict[str, tuple[Axis | None, ...]] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    root: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Groups] = field(default_factory=dict)
    shortcuts: set[str] = field(default_factory=set)
    stages: list[tuple[str, ...]] = field(default_factory=list)
    tokens: Callable[[Tensor], Tensor] | None = None

    def layer(self, name: str, reads: Axis | str | None, writes: Axis | str | None, *, aside: bool = False) -> None:
        """A convolution or a linear layer with its bias; a string is a stream of plain channels, None what is whole.

        Args:
            aside: Whether it is too small a part (squeeze-excite) to have a say beside others that read the stream.
        """
        module: Any = self.model.get_submodule(name)
        if getattr(module, "groups", 1) > 1:
            raise Unsliceable(f"{name} convolves in groups, which others of its family do not")
        reads, writes = _axis(reads), _axis(writes)
        self._weights(name, writes, reads)
        if reads is not None:
            self.readers.append(Reader(name, reads, aside))

    def grouped(self, name: str, stream: str) -> None:
        """A convolution in groups, depthwise included: the channels that go in are those that come out."""
        module: Any = self.model.get_submodule(name)
        if module.in_channels != module.out_channels:
            raise Unsliceable(
                f"{name} convolves {module.in_channels} channels in {module.groups} groups to {module.out_channels}"
            )
        self.groups[stream] = Groups(module.groups, module.out_channels // module.groups)
        reads = Axis(stream, within=True)
        self._weights(name, Axis(stream), reads)
        self.readers.append(Reader(name, reads))

    def norm(self, name: str, stream: Axis | str) -> None:
        """A normalisation, its affine parameters and its running statistics."""
        self.each(name, stream)

    def each(self, name: str, stream: Axis | str) -> None:
        """Every tensor of a module has one dimension, the stream's channels; counters have none."""
        for tensor, value in self.model.get_submodule(name).state_dict().items():
            self.axes[f"{name}.{tensor}"] = (_axis(stream),) if value.ndim else ()

    def tensor(self, name: str, *axes: Axis | str | None) -> None:
        self.axes[name] = tuple(_axis(axis) for axis in axes)

    def same(self, stream: str, other: str) -> None:
        """Two streams are the same channels."""
        self.root[stream] = other

    def shortcut(self, *modules: str) -> None:
        """These pass a stream on to another, and are not there where the two are the same."""
        self.shortcuts.update(modules)

    def done(self) -> Layout:
        """Raises Unsliceable where a tensor of the network was not drawn."""
        missing = self.model.state_dict().keys() - self.axes.keys()
        if missing:
            raise Unsliceable(f"nobody has said how {min(missing)} of a {type(self.model).__name__} is cut")
        drawn = Layout(
            self.axes, tuple(self.readers), self.root, {}, frozenset(self.shortcuts), tuple(self.stages), self.tokens
        )
        # A stream that is convolved depthwise, and elsewhere in larger groups, is bound by these.
        groups: dict[str, Groups] = {}
        for stream, found in self.groups.items():
            root = drawn.rooted(stream)
            groups[root] = max(found, groups.get(root, found), key=lambda each: each.size)
        return replace(drawn, groups=groups)

    def _weights(self, name: str, writes: Axis | None, reads: Axis | None) -> None:
        module: Any = self.model.get_submodule(name)
        self.axes[f"{name}.weight"] = (writes, reads, *[None] * (module.weight.ndim - 2))
        if module.bias is not None:
            self.axes[f"{name}.bias"] = (writes,)


def columns(weight: Tensor, axis: Axis, groups: int = 1) -> Tensor:
    """What a layer makes of each entry of its input: the norm of the weights that read it, one number an entry."""
    if axis.within:  # O×(I/groups)×…: each group of outputs reads a group of inputs
        parts = weight.detach().float().reshape(groups, -1, *weight.shape[1:])
        return parts.pow(2).sum(dim=(1, *range(3, parts.ndim))).sqrt().flatten()
    squares: Tensor = weight.detach().float().pow(2).sum(dim=(0, *range(2, weight.ndim)))
    return squares.sqrt()


def counted(axis: Axis, entries: int) -> int:
    """Channels of a stream that lie along so many entries."""
    return entries // (axis.unit * axis.repeat)


def names(blocks: Iterable[nn.Module | tuple[str, nn.Module]], prefix: str) -> tuple[str, ...]:
    """The dotted names of a stage's blocks."""
    return tuple(f"{prefix}.{number}" for number, _ in enumerate(blocks))


def _axis(given: Axis | str | None) -> Axis | None:
    return Axis(given) if isinstance(given, str) else given
