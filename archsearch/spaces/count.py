"""Networks counted without building them: what each layer stores, computes and moves, in closed form.

A family adds up its layers' counts; tests hold every sum equal to what torch itself counts. Closed forms take
microseconds, so that a search can refuse thousands of proposals a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

# Kinds of work, told apart because a device does each at a pace of its own.
KINDS = ("conv", "pointwise", "grouped", "depthwise", "linear", "attention")


@dataclass(frozen=True)
class Cost:
    """What a network costs its user. None where nobody asked.

    Attributes:
        params: Parameters, as torch counts them.
        macs: Multiply-accumulates for one image.
        size_bytes: Of the stored weights and buffers, at the precision asked for.
        peak_activation_bytes: Most bytes of activations alive at one time in an fp32 forward pass of a batch.
        latency_ms: Of one batch on a device, predicted or measured.
    """

    params: int
    macs: int
    size_bytes: int | None = None
    peak_activation_bytes: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Count:
    """What some layers are made of, for one image. Counts add up.

    Attributes:
        params: Parameters, as torch counts them.
        macs: Multiply-accumulates of convolutions, matrix products and attention, as torch counts them.
        matrix: Parameters that are entries of weight matrices, which int8 stores in one byte each.
        rows: Outputs of these matrices, each of which has a scale of its own in int8.
        buffers: Numbers stored beside the parameters (running means and variances).
        counters: Whole numbers of eight bytes stored beside them (batches tracked).
        layers: Layers that run, by kind of work.
        work: Multiply-accumulates by kind of work.
        moved: Activations written (count).
        peak: Most activations held at one time while a layer runs, at least; exact only where layers form a chain.
    """

    params: int = 0
    macs: int = 0
    matrix: int = 0
    rows: int = 0
    buffers: int = 0
    counters: int = 0
    layers: tuple[int, ...] = field(default=(0,) * len(KINDS))
    work: tuple[int, ...] = field(default=(0,) * len(KINDS))
    moved: int = 0
    peak: int = 0

    def __add__(self, other: Count) -> Count:
        return total(self, other)

    def __mul__(self, times: int) -> Count:
        """The same layers so many times over."""
        return total(*[self] * times)

    def beside(self, elements: int) -> Count:
        """The same layers while a shortcut of so many activations is held beside them."""
        return replace(self, peak=self.peak + elements)


def total(*counts: Count) -> Count:
    """All layers of `counts`, one after the other."""
    return Count(
        params=sum(c.params for c in counts),
        macs=sum(c.macs for c in counts),
        matrix=sum(c.matrix for c in counts),
        rows=sum(c.rows for c in counts),
        buffers=sum(c.buffers for c in counts),
        counters=sum(c.counters for c in counts),
        layers=_sums(c.layers for c in counts),
        work=_sums(c.work for c in counts),
        moved=sum(c.moved for c in counts),
        peak=max((c.peak for c in counts), default=0),
    )


def conv(
    c_in: int, c_out: int, kernel: int, out_hw: int, *, groups: int = 1, bias: bool = False, stride: int = 1
) -> Count:
    """A convolution with `out_hw` output positions."""
    matrix = c_in // groups * c_out * kernel * kernel
    kind = "depthwise" if groups == c_in > 1 else "grouped" if groups > 1 else "conv" if kernel > 1 else "pointwise"
    out = c_out * out_hw
    return _layer(kind, matrix, c_out if bias else 0, c_out, out_hw, c_in * out_hw * stride * stride + out, out)


def linear(d_in: int, d_out: int, positions: int, *, bias: bool = True) -> Count:
    """A linear layer applied at `positions` places."""
    out = d_out * positions
    return _layer("linear", d_in * d_out, d_out if bias else 0, d_out, positions, d_in * positions + out, out)


def batch_norm(channels: int, hw: int = 0) -> Count:
    """A batch norm with scale and shift over `hw` positions."""
    out = channels * hw
    return Count(params=2 * channels, buffers=2 * channels, counters=1, moved=out, peak=2 * out)


def layer_norm(channels: int, positions: int = 0) -> Count:
    """A layer norm with scale and shift (or only parameters of that shape, where `positions` is 0)."""
    out = channels * positions
    return Count(params=2 * channels, moved=out, peak=2 * out)


def learned(parameters: int) -> Count:
    """Parameters that are added or multiplied: positions, class tokens, layer scales."""
    return Count(params=parameters)


def moved(activations: int) -> Count:
    """A layer without parameters or products that writes so many activations: pooling, gating."""
    return Count(moved=activations, peak=2 * activations)


def attention(width: int, tokens: int) -> Count:
    """Queries times keys, then weights times values: tokens² × width each, without parameters."""
    macs = 2 * tokens * tokens * width
    out = width * tokens
    return replace(_layer("attention", 0, 0, 0, 0, 4 * out, out), macs=macs, work=_one("attention", macs))


def transformer(width: int, hidden: int, tokens: int) -> Count:
    """A pre-norm transformer layer: attention with biased projections, and an MLP."""
    norm = layer_norm(width, tokens)
    attend = [norm, linear(width, 3 * width, tokens), attention(width, tokens), linear(width, width, tokens)]
    mlp = [norm, linear(width, hidden, tokens), linear(hidden, width, tokens)]
    return total(*attend, *mlp).beside(width * tokens)


def _layer(kind: str, matrix: int, bias: int, rows: int, positions: int, peak: int, moved: int) -> Count:
    macs = matrix * positions
    return Count(
        params=matrix + bias,
        macs=macs,
        matrix=matrix,
        rows=rows,
        layers=_one(kind, 1),
        work=_one(kind, macs),
        moved=moved,
        peak=peak,
    )


def _one(kind: str, value: int) -> tuple[int, ...]:
    return tuple(value if name == kind else 0 for name in KINDS)


def _sums(vectors: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(values) for values in zip((0,) * len(KINDS), *vectors, strict=True))
