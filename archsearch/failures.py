"""What goes wrong with one network of many, and costs that one alone."""

from __future__ import annotations

# What builders, kernels, allocators and exporters raise. Neither databases nor disks nor a cancellation do: those are
# not the network's fault, and no other network would be better off.
NETWORK_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    TypeError,
    ValueError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
)


def reason_of(error: Exception) -> str:
    """Why, in a few words for people: the kind of error. Libraries' texts name addresses, files and lines of C++."""
    kind = type(error).__name__
    return "out of memory" if kind in ("OutOfMemoryError", "MemoryError") else f"it fails with a {kind}"
