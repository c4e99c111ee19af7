"""Latency of a whole space from some twenty of its members timed on a device.

A network's latency is, to a first approximation, a sum of its layers' (Ma et al. 2018; nn-Meter, Zhang et al. 2021).
Its `Count` says how many layers there are of each kind, how many multiply-accumulates those compute and how many
activations are written; the device's price of each is found by least squares of relative errors. Twenty networks do
not tell all prices apart, so a ridge holds each near an equal share of the whole, and of four ways to read the same
prices the one is taken that best predicts the members it has not seen.
"""

from archsearch.hardware.predict.calibration import Calibration, calibrate, time_all
from archsearch.hardware.predict.design import pick_members
from archsearch.hardware.predict.features import Floats
from archsearch.hardware.predict.fitting import fit
from archsearch.hardware.predict.predictor import Predictor
from archsearch.hardware.predict.table import Table, read_predictor

__all__ = [
    "Calibration", "Floats", "Predictor", "Table", "calibrate", "fit", "pick_members", "read_predictor", "time_all",
]  # fmt: skip
