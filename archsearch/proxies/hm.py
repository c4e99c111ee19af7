"""Harmonic size."""

from __future__ import annotations

from archsearch.proxies.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(magnitude=True, source="this project; half the harmonic mean of a matrix's two sides, summed")
def hm(ev: Evidence) -> float:
    """Size that saturates: the sum over weight matrices of in·out / (in + out).

    A matrix can pass on no more than its smaller side; parameters count the larger side just as much, so they
    overrate wide MLPs. `in` is everything that reaches one output: a k×k convolution has C·k² inputs. The classifier
    is left out: its size is the task's.
    """
    shapes = [(weight.value.shape[0], weight.value[0].numel()) for weight in ev.weights if not weight.is_head]
    return sum(d_out * d_in / (d_out + d_in) for d_out, d_in in shapes)
