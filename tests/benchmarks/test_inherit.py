"""What it is worth to begin with weights: the figures that are made of single trainings."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.inherit import LONG, PRETRAINED, REPAIRED, SCRATCH, Run, summary, taken


def run(start: str, acc: float, *, seed: int = 0, score: float = 0.0, curve: Sequence[tuple[int, float]] = ()) -> Run:
    epochs = 50 if start == LONG else 10
    return Run("lite0", 0.5, start, seed, epochs, "regnet {}", 1, 1, score, acc, list(curve), 1.0)


def test_a_cut_is_held_against_noise_trained_as_long_and_five_times_as_long() -> None:
    runs = [
        run(SCRATCH, 30.0),
        run(LONG, 50.0, curve=[(10, 33.0), (50, 52.0)]),
        run(REPAIRED, 70.0, score=-1.0, curve=[(1, 40.0), (2, 55.0), (10, 72.0)]),
        run("depth", 71.5, curve=[(10, 70.0)]),
    ]
    assert summary(runs) == {"epochs_ratio": 2 / 50, "gain_at_equal_epochs": 40.0, "auto_regret": 1.5}


def test_regret_is_of_means_over_seeds() -> None:
    long = run(LONG, 50.0, curve=[(50, 90.0)])
    runs = [long, *(run(SCRATCH, acc, seed=i) for i, acc in enumerate((30.0, 40.0)))]
    runs += [run(REPAIRED, acc, seed=i, curve=[(10, 50.0)]) for i, acc in enumerate((29.0, 39.5))]
    found = summary(runs)
    assert found["auto_regret"] == pytest.approx(0.75)
    assert found["epochs_ratio"] == 1.0  # never got there


def test_what_is_measured_is_taken_before_what_is_guessed() -> None:
    mine = {SCRATCH: run(SCRATCH, 90.0, score=5.0), REPAIRED: run(REPAIRED, 60.0, score=-1.2)}
    assert taken(mine).start == REPAIRED
    assert taken({**mine, PRETRAINED: run(PRETRAINED, 50.0, score=-1.0)}).start == PRETRAINED
    assert taken({SCRATCH: mine[SCRATCH]}).start == SCRATCH
