"""What is left of a network after a cut, mended without gradients: layer by layer, in one pass.

Each layer is fitted to what the whole network's layer of the same place puts out for the same examples, by least
squares (Li et al. 2020, FSKD, eq. 4, who fit an output map; where a layer is a plain matrix the fit is of all of it).
A layer sees what those before it put out once they were mended, and running statistics are taken in the same pass.
"""

# B batch, I inputs, M samples, O outputs, H W space

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsearch.inherit.importance import unlearned

if TYPE_CHECKING:
    from torch import Tensor, nn

# Samples (an example at a place) a layer is fitted on at most, and the share of the examples that tell how strongly.
_SAMPLES, _HELD_OUT = 4096, 0.2
# Ridges to choose from, in units of the mean square of an input.
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Seen:
    """What a layer of the whole put out: M×O at some places, and the size of the map they are of."""

    y_MO: Tensor
    size: tuple[int, ...]


def watch(model: nn.Module, layers: Mapping[str, Tensor | None], look: Callable[[], object]) -> dict[str, Seen]:
    """What layers of a network put out, at the places that `repair` asks for.

    Args:
        layers: By name, which of their outputs; None for all.
    """
    found: dict[str, Seen] = {}

    def note(name: str, rows: Tensor | None) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, y: Tensor) -> None:
            y_MO = _samples(module, y)
            found[name] = Seen(y_MO if rows is None else y_MO.index_select(1, rows), _size(module, y))

        return hook

    with ExitStack() as stack, unlearned(model):
        for name, rows in layers.items():
            stack.callback(model.get_submodule(name).register_forward_hook(note(name, rows)).remove)
        look()
    return found


def repair(model: nn.Module, wanted: Mapping[str, Seen], look: Callable[[], object]) -> dict[str, float]:
    """Mend the layers that are named, in place, and take running statistics anew.

    Args:
        wanted: By name, what each layer is to put out.
        look: Shows the network the examples `watch` showed the whole, all of them at once.

    Returns:
        By layer, the share of what it was off that is still missing, on the examples it was not fitted on.
    """
    left: dict[str, float] = {}

    def mend(name: str) -> Callable[..., Any]:
        def hook(module: Any, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
            left[name] = _mend(module, inputs[0], y, wanted[name])
            out: Tensor = module.forward(inputs[0])
            return out

        return hook

    with ExitStack() as stack:
        for name in wanted:
            stack.callback(model.get_submodule(name).register_forward_hook(mend(name)).remove)
        statistics(model, look)
    return left


def statistics(model: nn.Module, look: Callable[[], object]) -> None:
    """Take the running statistics of a network's batch norms anew, from what it is shown; nothing else learns."""
    from torch import nn

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    with unlearned(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all it is shown
            norm.train()
        try:
            look()
        finally:
            for norm, (momentum, tracked) in zip(norms, before, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked = tracked
                norm.eval()


def _mend(module: Any, x: Tensor, y: Tensor, wanted: Seen) -> float:
    """Fit one layer; returns the share of its error that is left."""
    import torch
    from torch import nn

    plain = not isinstance(module, nn.Conv2d) or module.kernel_size == (1, 1)
    own = _samples(module, y, wanted.size)
    off_MO = wanted.y_MO.to(own) - own
    basis = _inputs(module, x, wanted.size) if plain else own
    # The last examples of a batch tell; samples follow one another example by example.
    told = len(basis) - max(1, int(_HELD_OUT * len(basis)))
    change_IO, bias_O, left = fit(
        basis[:told], off_MO[:told], basis[told:], off_MO[told:], bias=module.bias is not None
    )
    if change_IO is None:
        return 1.0
    with torch.no_grad():
        weight = module.weight
        change = change_IO.T.to(weight)
        weight += change.reshape(weight.shape) if plain else torch.einsum("po,oikl->pikl", change, weight)
        if module.bias is not None:
            if not plain:
                module.bias += change @ module.bias
            module.bias += bias_O.to(module.bias)
    return left


def fit(
    x_MI: Tensor, y_MO: Tensor, heldout_x: Tensor, heldout_y: Tensor, *, bias: bool
) -> tuple[Tensor | None, Tensor, float]:
    """Ridge regression of y on x, its strength chosen on what is held out: I×O, the intercept, and the share of the
    error that is left there. None where nothing is gained, as where there is nothing to mend."""
    import torch

    x, y = x_MI.double(), y_MO.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    centred, target = x - mean_x, y - mean_y
    gram, cross = centred.T @ centred, centred.T @ target
    scale = gram.diagonal().mean().clamp_min(1e-30)
    # Without a bias a norm takes the mean away afterwards, and all that matters is what is around it.
    away = heldout_y.double() - (mean_y if not bias else 0.0)
    before = float(away.pow(2).sum())
    best: tuple[float, Tensor] = (before * (1 - 1e-6), torch.empty(0))
    for ridge in _RIDGES:
        damped = gram + ridge * scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        solution = torch.linalg.solve(damped, cross)
        guess = (heldout_x.double() - mean_x) @ solution + (mean_y if bias else 0.0)
        error = float((away - guess).pow(2).sum())
        if error < best[0]:
            best = (error, solution)
    if not best[1].numel():
        return None, mean_y, 1.0
    return best[1], mean_y - mean_x @ best[1], best[0] / max(before, 1e-30)


def _size(module: nn.Module, y: Tensor) -> tuple[int, ...]:
    """Of the map a convolution puts out."""
    from torch import nn

    return tuple(y.shape[2:]) if isinstance(module, nn.Conv2d) else ()


def _samples(module: nn.Module, y: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
    """M×O: what a layer puts out at some places of each example, the same for equal maps.

    Args:
        size: Of the map it is compared with; a larger one is averaged over first.
    """
    from torch import nn

    if not isinstance(module, nn.Conv2d):
        flat = y.detach().unsqueeze(1) if y.ndim == 2 else y.detach().flatten(1, -2)
        return _places(flat).float()
    return _places(_pooled(y.detach(), size).flatten(2).transpose(1, 2)).float()


def _inputs(module: Any, x: Tensor, size: tuple[int, ...]) -> Tensor:
    """M×I: what a 1×1 convolution or a linear layer reads at the places its output is looked at."""
    from torch import nn

    if not isinstance(module, nn.Conv2d):
        return _samples(module, x)
    across, down = module.stride
    return _samples(module, x[:, :, ::across, ::down], size)


def _pooled(y_BCHW: Tensor, size: tuple[int, ...] | None) -> Tensor:
    from torch.nn.functional import adaptive_avg_pool2d

    return y_BCHW if size is None or tuple(y_BCHW.shape[2:]) == size else adaptive_avg_pool2d(y_BCHW, list(size))  # type: ignore[arg-type]


def _places(y_BPO: Tensor) -> Tensor:
    """M×O of B×P×O: places drawn for each example, by the sizes alone."""
    import torch

    examples, places = y_BPO.shape[:2]
    count = max(1, min(places, _SAMPLES // examples))
    if count < places:
        draw = torch.Generator().manual_seed(places)
        index_BP = torch.rand(examples, places, generator=draw).argsort(dim=1)[:, :count].to(y_BPO.device)
        y_BPO = torch.gather(y_BPO, 1, index_BP[:, :, None].expand(-1, -1, y_BPO.shape[2]))
    return y_BPO.flatten(0, 1)
