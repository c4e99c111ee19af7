"""Networks counted without building them: what each layer stores, computes and moves, in closed form.

A family adds up its layers' counts; tests hold every sum equal to what torch itself counts. Closed forms take
microseconds, so that a search can refuse thousands of proposals a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

# Kinds of work, told apart because a device does each at a pace of its own.
KINDS = ("conv", "pointwise", "grouped", "depthwise", "linear", "attention")
_NOTHING = (0,) * len(KINDS)
# Layers' counts that are remembered; a family's members share most of their layers.
_KEPT = 1 << 14


@dataclass(frozen=True)
class Cost:
    """What a network costs its user. None where nobody asked.

    Attributes:
        params: Parameters, as torch counts them.
        macs: Multiply-accumulates for one example.
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
    """What some layers are made of, for one example. Counts add up.

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
    layers: tuple[int, ...] = field(default=_NOTHING)
    work: tuple[int, ...] = field(default=_NOTHING)
    moved: int = 0
    peak: int = 0

    def __add__(self, other: Count) -> Count:
        return total(self, other)

    def __mul__(self, times: int) -> Count:
        """The same layers so many times over."""
        return Count(
            params=self.params * times,
            macs=self.macs * times,
            matrix=self.matrix * times,
            rows=self.rows * times,
            buffers=self.buffers * times,
            counters=self.counters * times,
            layers=tuple(value * times for value in self.layers),
            work=tuple(value * times for value in self.work),
            moved=self.moved * times,
            peak=self.peak if times else 0,
        )

    def beside(self, elements: int) -> Count:
        """The same layers while a shortcut of so many activations is held beside them."""
        return replace(self, peak=self.peak + elements)


def total(*counts: Count) -> Count:
    """All layers of `counts`, one after the other."""
    params = macs = matrix = rows = buffers = counters = moved = peak = 0
    # One loop over tuples, for a search asks thousands of times a second.
    for c in counts:
        params += c.params
        macs += c.macs
        matrix += c.matrix
        rows += c.rows
        buffers += c.buffers
        counters += c.counters
        moved += c.moved
        peak = max(peak, c.peak)
    layers = tuple(map(sum, zip(_NOTHING, *(c.layers for c in counts), strict=True)))
    work = tuple(map(sum, zip(_NOTHING, *(c.work for c in counts), strict=True)))
    return Count(params, macs, matrix, rows, buffers, counters, layers, work, moved, peak)


@lru_cache(_KEPT)
def conv(
    c_in: int, c_out: int, kernel: int, out_hw: int, *, groups: int = 1, bias: bool = False, stride: int = 1
) -> Count:
    """A convolution with `out_hw` output positions."""
    matrix = c_in // groups * c_out * kernel * kernel
    kind = "depthwise" if groups == c_in > 1 else "grouped" if groups > 1 else "conv" if kernel > 1 else "pointwise"
    out = c_out * out_hw
    return _layer(kind, matrix, c_out if bias else 0, c_out, out_hw, c_in * out_hw * stride * stride + out, out)


@lru_cache(_KEPT)
def linear(d_in: int, d_out: int, positions: int, *, bias: bool = True) -> Count:
    """A linear layer applied at `positions` places."""
    out = d_out * positions
    return _layer("linear", d_in * d_out, d_out if bias else 0, d_out, positions, d_in * positions + out, out)


@lru_cache(_KEPT)
def batch_norm(channels: int, hw: int = 0) -> Count:
    """A batch norm with scale and shift over `hw` positions."""
    out = channels * hw
    return Count(params=2 * channels, buffers=2 * channels, counters=1, moved=out, peak=2 * out)


@lru_cache(_KEPT)
def layer_norm(channels: int, positions: int = 0) -> Count:
    """A layer norm with scale and shift (or only parameters of that shape, where `positions` is 0)."""
    out = channels * positions
    return Count(params=2 * channels, moved=out, peak=2 * out)


@lru_cache(_KEPT)
def squeeze_excite(channels: int, reduced: int, hw: int) -> Count:
    """Channels pooled over `hw` positions, two biased 1×1 convolutions through `reduced` channels, and a gate."""
    squeeze, excite = conv(channels, reduced, 1, 1, bias=True), conv(reduced, channels, 1, 1, bias=True)
    return total(squeeze, excite, moved(channels * hw))


def embedding(rows: int, width: int, tokens: int) -> Count:
    """A table whose rows are looked up, one a token; nothing is multiplied, and int8 leaves it as it is."""
    out = width * tokens
    return Count(params=rows * width, moved=out, peak=out)


def learned(parameters: int) -> Count:
    """Parameters that are added or multiplied: positions, class tokens, layer scales."""
    return Count(params=parameters)


def moved(activations: int) -> Count:
    """A layer without parameters or products that writes so many activations: pooling, gating."""
    return Count(moved=activations, peak=2 * activations)


@lru_cache(_KEPT)
def attention(width: int, tokens: int) -> Count:
    """Queries times keys, then weights times values: tokens² × width each, without parameters."""
    macs = 2 * tokens * tokens * width
    out = width * tokens
    return replace(_layer("attention", 0, 0, 0, 0, 4 * out, out), macs=macs, work=_one("attention", macs))


@lru_cache(_KEPT)
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
