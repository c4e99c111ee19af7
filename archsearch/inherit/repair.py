"""What is left of a network after a cut, mended without gradients in one pass, from its first layer to its last.

A layer that was cut reads less than the whole's did, and reads what mended layers before it make of the rest. From that
it guesses, by least squares, what the whole's layer reads; its weights become the whole's weights after that guess (He
et al. 2017, Channel Pruning, section 3.1; Li et al. 2020, FSKD, map what a layer puts out, which of a convolution
over several pixels cannot bring back what was not read). Running statistics move as far as what the norms are given
has moved.
"""

# C channels, I inputs, M samples, N inputs of the whole layer, O outputs, R outputs times places of a kernel, S N or R

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch.inherit.guess import fit, missing, slopes
from archsearch.inherit.layout import Layout
from archsearch.inherit.shown import Shown, in_rows
from archsearch.inherit.slices import Cut, Scissors

if TYPE_CHECKING:
    from torch import Tensor, nn

# Samples (an example at a place) a layer is fitted on, and what all layers' together may take.
_MOST, _LEAST, _ROOM_BYTES = 4096, 512, 2**29
# Of what a layer makes, the share of squares that only rounding is off.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Read:
    """What a layer of the whole reads: M×N at some places, and the size of the map they are of, if it is one."""

    x_MN: Tensor
    size: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """What the layers of the whole read, and means and variances of what its batch norms are given.

    Attributes:
        most: Samples of a layer.
    """

    reads: Mapping[str, Read]
    moments: Mapping[str, tuple[Tensor, Tensor]]
    most: int


@dataclass(frozen=True)
class Part:
    """What a layer is cut out of.

    Attributes:
        whole: The whole's layer, by name.
        weight_ON: Its weights, of the outputs that are kept: O×N×…
        bias_O: Its bias, if it has one.
        columns_I: Which of the whole's inputs are kept; None where it reads another stream.
    """

    whole: str
    weight_ON: Tensor
    bias_O: Tensor | None
    columns_I: Tensor | None


def record(model: nn.Module, layout: Layout, shown: Shown) -> Record:
    """What there is to know of the whole network to mend any that is cut out of it."""
    layers = [reader.module for reader in layout.readers if not reader.aside and not reader.axis.within]
    state = model.state_dict()
    wide = sum(state[f"{name}.weight"].shape[1] for name in layers)
    most = max(_LEAST, min(_MOST, _ROOM_BYTES // (4 * max(1, wide))))
    reads: dict[str, Read] = {}
    moments: dict[str, tuple[Tensor, Tensor]] = {}

    def read(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            reads[name] = Read(shown.samples(in_rows(module, inputs[0]), most), _size(module, inputs[0]))

        return hook

    def given(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            moments[name] = _moments(inputs[0])

        return hook

    with ExitStack() as stack:
        for name in layers:
            stack.callback(model.get_submodule(name).register_forward_pre_hook(read(name)).remove)
        for name, norm in norms(model):
            stack.callback(norm.register_forward_pre_hook(given(name)).remove)
        shown.answers(model)
    return Record(reads, moments, most)


def mend(model: nn.Module, done: Cut, scissors: Scissors, kept: Record, shown: Shown, *, layers: bool = True) -> None:
    """Mend a network after a cut, in place.

    Args:
        kept: Of the whole, shown the same examples.
        layers: Whether layers are mended, too, or running statistics alone.
    """

    def guess(name: str, part: Part) -> Callable[..., Any]:
        def hook(module: Any, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
            changed = _mend(module, part, inputs[0], kept, shown)
            out: Tensor = module.forward(inputs[0]) if changed else y
            return out

        return hook

    def settle(name: str) -> Callable[..., None]:
        def hook(norm: Any, inputs: tuple[Any, ...]) -> None:
            if name in done.passing:
                _pass_on(norm, inputs[0])
            else:
                _settle(norm, name, inputs[0], scissors, kept)

        return hook

    with ExitStack() as stack:
        for name, part in parts(model, scissors) if layers else ():
            stack.callback(model.get_submodule(name).register_forward_hook(guess(name, part)).remove)
        for name, norm in norms(model):
            stack.callback(norm.register_forward_pre_hook(settle(name)).remove)
        shown.answers(model)


def norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Those with running statistics, by name."""
    from torch import nn

    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            yield name, module


def parts(model: nn.Module, scissors: Scissors) -> Iterator[tuple[str, Part]]:
    """The layers of a network that can be mended: those that read all of a stream, large ones."""
    for reader in scissors.layout.readers:
        name = f"{reader.module}.weight"
        source = scissors.named(name)
        if reader.aside or reader.axis.within or source is None:
            continue
        module: Any = model.get_submodule(reader.module)
        weight, bias = scissors.outputs(name, len(module.weight)), None
        if module.bias is not None:
            bias = scissors.outputs(f"{reader.module}.bias", len(module.bias))
        columns = scissors.inputs(name, module.weight.shape[1])
        yield reader.module, Part(source.removesuffix(".weight"), weight, bias, columns)


def _mend(module: Any, part: Part, x: Tensor, kept: Record, shown: Shown) -> bool:
    """Give a layer the weights that make most of what it reads; says whether it was off at all."""
    import torch

    read = kept.reads[part.whole]
    x_MI = shown.samples(in_rows(module, _sized(module, x, read.size)), kept.most)
    whole, x_MN = part.weight_ON.to(x_MI), read.x_MN.to(x_MI)
    flat_RN, kernel = whole.movedim(1, -1).flatten(0, -2), whole.shape[2:]
    weight, off_MN, scaled_MN = torch.zeros_like(flat_RN[:, : x_MI.shape[1]]), x_MN, x_MN
    if part.columns_I is not None:
        columns_I = part.columns_I.to(x_MI.device)
        off_MN = x_MN.index_add(1, columns_I, x_MI, alpha=-1.0)
        if missing(off_MN, x_MN, flat_RN) < _ROUNDING:
            return False
        scale_I = slopes(x_MI, x_MN[:, columns_I])
        weight, scaled_MN = flat_RN[:, columns_I] * scale_I, x_MN.index_add(1, columns_I, x_MI * scale_I, alpha=-1.0)
    found = fit(x_MI, scaled_MN, flat_RN, bias=module.bias is not None, before_MN=off_MN)
    if found is None:
        return False
    change_RI, shift_R = found
    mended = (weight + change_RI).reshape(len(whole), *kernel, -1).movedim(-1, 1)
    module.weight.copy_(mended)
    if module.bias is not None and part.bias_O is not None:
        module.bias.copy_(part.bias_O.to(shift_R) + shift_R.reshape(len(whole), -1).sum(dim=1))
    return True


def _settle(norm: Any, name: str, x: Tensor, scissors: Scissors, kept: Record) -> None:
    """Move a norm's running statistics as far as what it is given differs from what the whole's is.

    The whole's were taken over its training, and these examples are few: what is off about them is so for both.
    """
    source = scissors.renamed(name)
    mean, var = _moments(x)
    theirs = (scissors.rows(f"{name}.running_mean", value, len(mean)).to(mean) for value in kept.moments[source])
    their_mean, their_var = theirs
    apart = (mean - their_mean).square() / (their_var + norm.eps)
    ratio = (var + norm.eps) / (their_var + norm.eps)
    if float(apart.max()) < _ROUNDING and float((ratio - 1).square().max()) < _ROUNDING:
        return
    whole = {key: scissors.outputs(f"{name}.{key}", len(mean)).to(mean) for key in ("running_mean", "running_var")}
    norm.running_mean.copy_(whole["running_mean"] + mean - their_mean)
    norm.running_var.copy_(whole["running_var"] * ratio)


def _pass_on(norm: Any, x: Tensor) -> None:
    """Make a norm pass on what it is given, with running statistics and in training alike."""
    mean, var = _moments(x)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_((var + norm.eps).sqrt())
    norm.bias.copy_(mean)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of B×C×…, over all examples and places."""
    import torch

    dims = [dim for dim in range(x.ndim) if dim != 1]
    var_C, mean_C = torch.var_mean(x.detach().float(), dim=dims, correction=0)
    return mean_C, var_C


def _size(module: nn.Module, x: Tensor) -> tuple[int, ...]:
    """Of the map a convolution reads."""
    from torch import nn

    return tuple(x.shape[2:]) if isinstance(module, nn.Conv2d) else ()


def _sized(module: nn.Module, x: Tensor, size: tuple[int, ...]) -> Tensor:
    """What a layer reads, averaged over areas where its map is larger than the whole's."""
    from torch.nn.functional import adaptive_avg_pool2d

    return x if _size(module, x) == size else adaptive_avg_pool2d(x.detach(), (size[0], size[1]))
