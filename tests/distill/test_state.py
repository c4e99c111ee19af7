from __future__ import annotations

import math
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch

from archsearch.distill import checkpoint
from archsearch.distill.state import GENTLE_NORM, Diverged, TrainState


def after(losses: list[float], start: TrainState | None = None) -> TrainState:
    state = start or TrainState()
    for loss in losses:
        state = state.with_loss(loss, {"labels": 0.25 * loss, "kd": 0.75 * loss})
    return state


def test_losses_and_terms_are_means_of_the_epoch_so_far() -> None:
    assert (TrainState().loss, TrainState().terms) == (0, {})
    state = after([1, 2, 6])
    assert (state.loss, state.terms) == (3, {"labels": 0.75, "kd": 2.25})
    other = after([4], state.next_epoch())
    assert (other.loss, other.terms, other.looked) == (4, {"labels": 1, "kd": 3}, 4)


def test_terms_of_which_some_steps_are_not_known_are_not_told_until_the_next_epoch() -> None:
    state = after([1, 1], TrainState(loss_sum=5.0, loss_count=2))
    assert (state.loss, state.terms) == (7 / 4, {})
    assert after([2], state.next_epoch()).terms == {"labels": 0.5, "kd": 1.5}


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_a_divergence_at_once(loss: float) -> None:
    with pytest.raises(Diverged, match=f"the loss became {loss}"):
        after([loss])


def test_a_loss_twenty_times_the_usual_is_a_divergence_once_it_is_known_what_is_usual() -> None:
    after([2] * 19 + [41])
    with pytest.raises(Diverged, match="the loss grew from 2 to 41"):
        after([2] * 20 + [41])
    after([2] * 20 + [40])
    after([0.1] * 20 + [20])  # below one, twenty is what is too much
    with pytest.raises(Diverged):
        after([0.1] * 20 + [21])


def test_a_state_gone_back_to_is_gone_on_from_more_gently_each_time() -> None:
    earlier, state = TrainState(step=3, micro_batch=16, looked=3), TrainState(step=9, micro_batch=8, looked=9)
    once = state.gentler_from(earlier)
    assert (once.step, once.micro_batch, once.retries, once.gentle) == (3, 16, 1, pytest.approx(0.3))
    assert once.gentler_from(TrainState()).gentle == pytest.approx(0.09)
    assert (state.clip_norm(None), state.clip_norm(5)) == (None, 5)
    assert [once.clip_norm(asked) for asked in (None, 5, 0.5)] == [GENTLE_NORM, GENTLE_NORM, 0.5]


def test_a_checkpoint_keeps_all_of_it(tmp_path: Path) -> None:
    state = TrainState(7, 1, 0.3, 16, 2.5, 3, 0.8, 40, {"labels": 0.5, "kd": 2.0})
    assert all(getattr(state, field.name) != getattr(TrainState(), field.name) for field in fields(state))
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, {"student/w": torch.ones(2)}, state, "this")
    found = checkpoint.load(path, "this")
    assert found is not None
    assert asdict(found[1]) == asdict(state)
    assert checkpoint.load(path, "other") is None
