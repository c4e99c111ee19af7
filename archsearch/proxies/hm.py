"""Harmonic size."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(magnitude=True, source="this project; half the harmonic mean of a matrix's two sides, summed")
def hm(ev: Evidence) -> float:
    """Size that saturates: the sum over weight matrices of in·out / (in + out).

    A matrix can pass on no more than its smaller side; parameters count the larger side just as much, so they
    overrate wide MLPs. `in` is everything that reaches one output: a k×k convolution has C·k² inputs. Groups are
    matrices of their own. The classifier is left out: its size is the task's.
    """
    return sum(
        layer.groups * harmonic(layer.d_out / layer.groups, layer.d_in) for layer in ev.layers if not layer.is_head
    )


def harmonic(a: float, b: float) -> float:
    """Half the harmonic mean of a matrix's two sides."""
    return a * b / (a + b)
