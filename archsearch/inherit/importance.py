"""What in a trained network matters: channels by what their readers make of them, blocks by what they change.

Both are looked at on some hundred examples, without labels and without gradients.
"""

# B batch, C channels, D features, H W space, T tokens, N entries of a stream

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Layout, columns

if TYPE_CHECKING:
    from torch import Tensor, nn

# Looks at all examples that the order of blocks may take.
_MOST_LOOKS = 32


def channels(model: nn.Module, layout: Layout, look: Callable[[], object]) -> dict[str, Tensor]:
    """How important each channel of each stream is: what each of its readers makes of it, all readers with equal say.

    A reader makes of a channel how large it is (root mean square over examples and places), times the norm of the
    weights that read it: the size of what would be missing (Sun et al. 2024, Wanda, eq. 1, summed over a channel;
    Muralidharan et al. 2024, Minitron, section 2.2, of activations alone).

    Args:
        look: Shows the network the examples.

    Returns:
        By the root of the stream, one number a channel that add up to one, float64 on the CPU.
    """
    seen: dict[str, tuple[Tensor, int]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            squares = square_sums(module, inputs[0])
            before, count = seen.get(name, (0.0, 0))
            seen[name] = (before + squares, count + inputs[0].numel() // len(squares))

        return hook

    with ExitStack() as stack, unlearned(model):
        for reader in layout.readers:
            handle = model.get_submodule(reader.module).register_forward_pre_hook(note(reader.module))
            stack.callback(handle.remove)
        look()
    found: dict[str, Tensor] = {}
    heard = {layout.rooted(reader.axis.stream) for reader in layout.readers if not reader.aside}
    for reader in layout.readers:
        if reader.aside and layout.rooted(reader.axis.stream) in heard:
            continue
        module: Any = model.get_submodule(reader.module)
        squares, count = seen[reader.module]
        size = (squares / max(1, count)).sqrt().cpu() * columns(
            module.weight, reader.axis, getattr(module, "groups", 1)
        ).cpu()
        axis = reader.axis
        whole = size.double().reshape(axis.repeat, -1, axis.unit).pow(2).sum(dim=(0, 2)).sqrt()
        root = layout.rooted(axis.stream)
        found[root] = found.get(root, 0.0) + whole / whole.sum().clamp_min(1e-300)
    return {root: value / value.sum() for root, value in found.items()}


def square_sums(module: nn.Module, x: Tensor) -> Tensor:
    """Sums of squares of what a layer reads, one an entry of its input: B×C×H×W of convolutions, …×D of linear ones."""
    import torch

    x = x.detach().float()
    if isinstance(module, torch.nn.Conv2d):
        return x.pow(2).sum(dim=(0, 2, 3), dtype=torch.float64)
    return x.flatten(0, -2).pow(2).sum(dim=0, dtype=torch.float64)


def order(model: nn.Module, layout: Layout, look: Callable[[], object]) -> tuple[tuple[int, ...], ...]:
    """For each stage the blocks in the order in which they are kept: the first for certain, the one that changes least
    the last.

    A block's influence is 1 − E[cos(x, block(x))] (Men et al. 2024, ShortGPT, eq. 1; Minitron, section 2.2). It is
    measured again each time one has been left out, or some have of very deep networks. The network's second block and
    its last go after all others.
    """
    everything = [name for stage in layout.stages for name in stage]
    at_once = -(-len(everything) // _MOST_LOOKS)
    # Small networks are left with few blocks at times, so these are the last to go rather than never.
    dear = {everything[-1], *everything[1:2]}
    found = []
    for stage in layout.stages:
        left, gone = list(stage[1:]), list[str]()
        while left:
            changed = influence(model, left, look, without=gone)
            least = sorted(left, key=lambda name: (name in dear, changed[name], name))[:at_once]
            gone += least
            left = [name for name in left if name not in least]
        found.append((0, *(stage.index(name) for name in reversed(gone))))
    return tuple(found)


def influence(
    model: nn.Module, blocks: Sequence[str], look: Callable[[], object], *, without: Sequence[str] = ()
) -> Mapping[str, float]:
    """1 − the mean cosine between what goes into a block and what comes out, over examples.

    Args:
        without: Blocks that pass on what they are given.
    """
    from torch.nn.functional import cosine_similarity

    cosines: dict[str, list[Tensor]] = {name: [] for name in blocks}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            before, after = taken(args, kwargs), given(out)
            alike = cosine_similarity(before.float().flatten(1), after.float().flatten(1), dim=1)
            cosines[name].append(alike.mean())

        return hook

    with ExitStack() as stack, unlearned(model), bypassed(model, without):
        for name in blocks:
            handle = model.get_submodule(name).register_forward_hook(note(name), with_kwargs=True)
            stack.callback(handle.remove)
        look()
    return {name: 1.0 - float(sum(values)) / len(values) for name, values in cosines.items()}


@contextmanager
def bypassed(model: nn.Module, blocks: Sequence[str]) -> Iterator[None]:
    """The network with some of its blocks passing on what they are given."""

    def passing(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        x = taken(args, kwargs)
        return (x, *out[1:]) if isinstance(out, tuple) else x

    with ExitStack() as stack:
        for name in blocks:
            handle = model.get_submodule(name).register_forward_hook(passing, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def taken(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """What a block is given: its first argument, whatever it is called."""
    first: Tensor = args[0] if args else next(iter(kwargs.values()))
    return first


def given(out: Any) -> Tensor:
    """What a block passes on; some libraries' add more to it."""
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


@contextmanager
def unlearned(model: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients, and afterwards as before."""
    import torch

    before = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(before)
