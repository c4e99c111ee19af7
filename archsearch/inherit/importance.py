"""What in a trained network matters: channels by what their readers make of them, blocks by what they change.

Both are looked at on some hundred examples, without labels and without gradients.
"""

# B batch, C channels, P places of an example

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Layout, columns
from archsearch.inherit.shown import Shown, in_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

# Looks at all examples that the order of blocks may take.
_MOST_LOOKS = 32
# What readers that are too small to have a say add to those that have: it decides between channels nobody else reads.
_ASIDE = 1e-6


def channels(model: nn.Module, layout: Layout, shown: Shown) -> dict[str, Tensor]:
    """How important each channel of each stream is: what each of its readers makes of it, all readers with equal say.

    A reader makes of a channel how large it is (root mean square over examples and places), times the norm of the
    weights that read it: the size of what would be missing (Sun et al. 2024, Wanda, eq. 1, summed over a channel;
    Muralidharan et al. 2024, Minitron, section 2.2, of activations alone).

    Returns:
        By the root of the stream, one number a channel that add up to one, float64 on the CPU; zeros where no reader
        makes anything of any.
    """
    sizes = _sizes(model, layout, shown)
    heard = {layout.rooted(reader.axis.stream) for reader in layout.readers if not reader.aside}
    found: dict[str, Tensor] = {}
    for reader in layout.readers:
        root = layout.rooted(reader.axis.stream)
        module: Any = model.get_submodule(reader.module)
        made = sizes[reader.module] * columns(module.weight, reader.axis, getattr(module, "groups", 1)).double().cpu()
        whole = made.reshape(reader.axis.repeat, -1, reader.axis.unit).pow(2).sum(dim=(0, 2)).sqrt()
        share = whole / whole.sum().clamp_min(1e-300) * (_ASIDE if reader.aside and root in heard else 1.0)
        found[root] = found[root] + share if root in found else share
    return {root: value / value.sum().clamp_min(1e-300) for root, value in found.items()}


def _sizes(model: nn.Module, layout: Layout, shown: Shown) -> dict[str, Tensor]:
    """Root mean squares of what the layers read that are readers, one an entry of their input; float64 on the CPU."""
    import torch

    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            read = in_rows(module, inputs[0])
            counts_BP, squares = shown.counting(read), read.pow(2)
            rows = squares if counts_BP is None else squares[counts_BP]
            found[name] = rows.mean(dim=tuple(range(rows.ndim - 1)), dtype=torch.float64).sqrt().cpu()

        return hook

    with ExitStack() as stack:
        for reader in layout.readers:
            handle = model.get_submodule(reader.module).register_forward_pre_hook(note(reader.module))
            stack.callback(handle.remove)
        shown.answers(model)
    return found


def order(model: nn.Module, layout: Layout, shown: Shown) -> tuple[tuple[int, ...], ...]:
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
            changed = influence(model, left, shown, without=gone) if len(left) > 1 else dict.fromkeys(left, 0.0)
            least = sorted(left, key=lambda name: (name in dear, changed[name], stage.index(name)))[:at_once]
            gone += least
            left = [name for name in left if name not in least]
        found.append((0, *(stage.index(name) for name in reversed(gone))))
    return tuple(found)


def influence(
    model: nn.Module, blocks: Sequence[str], shown: Shown, *, without: Sequence[str] = ()
) -> Mapping[str, float]:
    """1 − the mean cosine between what goes into a block and what comes out, over examples.

    Args:
        without: Blocks that pass on what they are given.
    """
    from torch.nn.functional import cosine_similarity

    found: dict[str, float] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            before, after = _counted(taken(args, kwargs), shown), _counted(given(out), shown)
            found[name] = 1.0 - float(cosine_similarity(before, after, dim=1).mean())

        return hook

    with ExitStack() as stack, bypassed(model, without):
        for name in blocks:
            handle = model.get_submodule(name).register_forward_hook(note(name), with_kwargs=True)
            stack.callback(handle.remove)
        shown.answers(model)
    return found


def _counted(y: Tensor, shown: Shown) -> Tensor:
    """B×…: what a block takes or gives, an example in one row, nothing where nothing counts."""
    counts_BP = shown.counting(y)
    y = y.detach().float()
    return (y if counts_BP is None else y * counts_BP[:, :, None]).flatten(1)


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
