"""What is measured on a candidate before any proxy looks at it."""

from archsearch.evidence.evidence import (
    Codes,
    Evidence,
    Layer,
    LayerSamples,
    NetworkEvidence,
    NotMeasured,
    Read,
    Weight,
    Zen,
)
from archsearch.evidence.initial import draw_weights
from archsearch.evidence.kept import keep
from archsearch.evidence.observe import TEMPERATURE, observe_student, observe_teacher

__all__ = [
    "TEMPERATURE",
    "Codes",
    "Evidence",
    "Layer",
    "LayerSamples",
    "NetworkEvidence",
    "NotMeasured",
    "Read",
    "Weight",
    "Zen",
    "draw_weights",
    "keep",
    "observe_student",
    "observe_teacher",
]
