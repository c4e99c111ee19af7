"""What networks cost: counted, weighed, timed, and held against a budget."""

from archsearch.hardware.budget import UNLIMITED, Limits, excess, fits, limits, nearest, require_possible
from archsearch.hardware.meta import (
    measure,
    measure_model,
    measure_teacher,
    peak_activation_bytes,
    teacher_activation_bytes,
)
from archsearch.hardware.ruler import Predictor, Ruler, measure_exactly, size_bytes

__all__ = [
    "UNLIMITED",
    "Limits",
    "Predictor",
    "Ruler",
    "excess",
    "fits",
    "limits",
    "measure",
    "measure_exactly",
    "measure_model",
    "measure_teacher",
    "nearest",
    "peak_activation_bytes",
    "require_possible",
    "size_bytes",
    "teacher_activation_bytes",
]
