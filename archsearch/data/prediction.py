"""What a finished student says of an example nobody labelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Form = Literal["auto", "onnx", "int8", "pt2", "torch"]
Listener = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """What one example is.

    Attributes:
        file: Where it is from, as it was given; of a folder, zip or table with its place in that. Empty where the
            example itself was given.
        names: Classes with their probabilities, 0 to 1, likeliest first; with many labels those that it has.
        error: Why the example could not be read; None where it could.
        example: It itself, where that can be told in words.
        note: What was done to it that its owner should hear.
    """

    file: str
    names: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    example: tuple[str, ...] = ()
    note: str | None = None
