"""What candidates are looked at with, on a real teacher and real digits."""

from __future__ import annotations

import gc
import math
import random
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from archsearch.data import Dataset
from archsearch.data.balanced import balanced_rows
from archsearch.errors import TooMuchMemory
from archsearch.hardware import Limits, Ruler
from archsearch.request import SearchSpec
from archsearch.search import Bench, Trial, evaluate, fidelities, prepare, search, winner
from archsearch.search.bench import require_room_for
from archsearch.spaces import Recipe, spaces
from archsearch.teachers import ImageTeacher, build

LIMITS = Limits(params=60_000, macs=2_000_000)
RESNETS = spaces.get("resnet_cifar")


def test_a_candidate_beyond_the_budget_fails_before_it_is_built(bench: Bench, spec) -> None:
    architecture = RESNETS.smallest(bench.task)
    cost = Ruler(bench.task).estimate(RESNETS, architecture)
    trial = evaluate(spec(), RESNETS, bench, architecture, Ruler(bench.task, Limits(params=cost.params - 1)))
    assert (trial.state, trial.score, trial.space) == ("failed", None, "resnet_cifar")
    assert "beyond the budget" in trial.reason


def test_a_candidate_that_does_not_fit_the_machine_fails_alone(bench: Bench, spec) -> None:
    """Counted on the meta device like any other; its 9·2⁴⁰ weights a layer are then refused by the allocator."""
    huge = replace(RESNETS, model=lambda a, task: Recipe("cifar_resnet", {"widths": [8, 8, 2**20]}))
    trial = evaluate(spec(), huge, bench, RESNETS.smallest(bench.task), Ruler(bench.task))
    assert trial.state == "failed"
    assert "memory" in trial.reason


@pytest.mark.parametrize(
    ("args", "reason"),
    [({"colour": "red"}, "it fails with a TypeError"), ({"widths": [8]}, "it fails with a ")],
)
def test_a_candidate_that_cannot_be_built_fails_alone(bench: Bench, spec, args: dict, reason: str) -> None:
    odd = replace(RESNETS, model=lambda a, task: Recipe("cifar_resnet", args))
    for ruler in (Ruler(bench.task), Ruler(bench.task, trade="peak_activation_bytes")):
        trial = evaluate(spec(), odd, bench, RESNETS.smallest(bench.task), ruler)
        assert (trial.state, trial.score) == ("failed", None)
        assert reason in trial.reason


def test_what_filled_the_memory_is_let_go_before_the_next_candidate(bench: Bench, spec, monkeypatch) -> None:
    alive: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
    before: list[int] = []

    def full(model: torch.nn.Module, *rest: object) -> None:
        gc.disable()  # a cycle, as autograd's hooks make them, is let go by nobody but the collector
        model.itself = [model]
        before.append(len(alive))
        alive.add(model)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB at 0x7f00")

    monkeypatch.setattr("archsearch.search.bench.observe_student", full)
    try:
        for _ in range(3):
            trial = evaluate(spec(), RESNETS, bench, RESNETS.smallest(bench.task), Ruler(bench.task))
            assert (trial.state, trial.reason) == ("failed", "out of memory")
    finally:
        gc.enable()
    assert before == [0, 0, 0]


def test_a_candidate_is_not_looked_at_on_more_images_than_there_is_memory_for(bench: Bench, spec, monkeypatch) -> None:
    monkeypatch.setattr("archsearch.search.bench.free_bytes", lambda device: 2_000_000)
    monkeypatch.setattr("archsearch.search.bench.observe_student", lambda *args: pytest.fail("it was looked at"))
    trial = evaluate(spec(), RESNETS, bench, RESNETS.largest(bench.task), Ruler(bench.task))
    assert trial.state == "failed"
    assert "of memory for 16 images, and 0.002 GB are free" in trial.reason


def test_a_teacher_too_large_for_the_batch_is_told_before_the_search(bench: Bench, teacher: ImageTeacher) -> None:
    require_room_for(16, teacher, bench.task)
    wide = replace(teacher, input_hw=(8192, 8192))
    with pytest.raises(TooMuchMemory, match=r"1024 images of 8192×8192 pixels would take .* smaller search.batch_size"):
        require_room_for(1024, wide, bench.task)


def test_the_batch_takes_every_class_in_turn(teacher: ImageTeacher, digits: Dataset, spec) -> None:
    for size in (16, 64):
        counts_K = np.bincount(prepare(spec(batch_size=size), teacher, digits).rungs[0].y_B.numpy(), minlength=10)
        assert counts_K.sum() == size
        assert counts_K.max() - counts_K.min() <= 1


def test_a_batch_of_one_label_an_image_is_the_one_it_was() -> None:
    y_N = np.repeat([0, 1, 2], [5, 20, 100])
    assert balanced_rows(y_N, 9, 3).tolist() == [1, 2, 3, 17, 23, 24, 67, 72, 92]


def test_the_batch_takes_the_label_it_has_least_of_next() -> None:
    """Two images of a thousand have label 0, half have label 1, one in ten has none: chance would miss label 0."""
    y_NK = np.zeros((1000, 3), dtype=np.uint8)
    y_NK[[411, 902], 0], y_NK[:500, 1], y_NK[400:900, 2] = 1, 1, 1
    for seed in range(5):
        batch_BK = y_NK[balanced_rows(y_NK, 32, seed)]
        assert len(batch_BK) == 32
        assert batch_BK.sum(0)[0] == 2
        none = int((~batch_BK.any(axis=1)).sum())
        assert max(*batch_BK.sum(0)[1:], none) - min(*batch_BK.sum(0)[1:], none) <= 1


def test_a_smaller_batch_of_many_labels_is_part_of_a_larger_one(pairs: Dataset) -> None:
    y_NK = pairs.train.y_N
    few, more, all_of_them = (balanced_rows(y_NK, count, 1).tolist() for count in (16, 64, 5000))
    assert (len(few), len(more)) == (16, 64)
    assert set(few) < set(more) < set(all_of_them)
    assert all_of_them == list(range(len(y_NK)))
    counts_K = y_NK[more].sum(0, dtype=np.int64)
    assert counts_K.max() - counts_K.min() <= 2


def test_candidates_for_many_labels_are_scored(pairs: Dataset, spec, tmp_path: Path) -> None:
    """By the default score and by one that looks at labels; the same seed gives the same score."""
    torch.manual_seed(0)
    model = build("cifar_resnet", {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 8, 16]})
    mean, std = pairs.task.mean, pairs.task.std
    teacher = ImageTeacher("resnet", model.eval().requires_grad_(False), 10, 1, mean, std, None, "a")
    ruler = Ruler(pairs.task)
    for wants in (spec(), spec(score={"snip": 1, "semantic": 1, "capacity": 1, "vkdnw": 1})):
        bench = prepare(wants, teacher, pairs, cache=tmp_path)
        assert bench.rungs[0].y_B.shape == (16, 10)
        architecture = {**RESNETS.smallest(pairs.task), "width3": 16}
        first, again = (evaluate(wants, RESNETS, bench, architecture, ruler) for _ in range(2))
        assert (first.state, first.reason) == ("scored", None)
        assert math.isfinite(first.score)
        assert first.score == again.score


@pytest.fixture(scope="module")
def halved(teacher: ImageTeacher, few_digits: Dataset, spec: Callable[..., SearchSpec]) -> tuple[SearchSpec, Bench]:
    # Chance, because a sampler that finds ever better candidates has most of them promoted.
    wants = spec(candidates=16, batch_size=64, seeds=3, halving=2, sampler="random")
    return wants, prepare(wants, teacher, few_digits)


@pytest.fixture(scope="module")
def rising(halved: tuple[SearchSpec, Bench]) -> list[Trial]:
    wants, bench = halved
    return list(search(wants, bench, Ruler(bench.task, LIMITS), [RESNETS]))


def test_rungs_double_images_and_initialisations(halved: tuple[SearchSpec, Bench], spec) -> None:
    wants, bench = halved
    assert fidelities(wants) == [(16, 1), (32, 2), (64, 3)]
    assert [(len(rung.y_B), rung.seeds) for rung in bench.rungs] == [(16, 1), (32, 2), (64, 3)]
    # The images of a lower rung are among those of the next.
    few, many = ({image.numpy().tobytes() for image in rung.x} for rung in bench.rungs[:2])
    assert few < many
    assert fidelities(spec(batch_size=64, seeds=3)) == [(64, 3)]


def test_halving_looks_closely_at_few_and_the_winner_is_among_them(rising: list[Trial]) -> None:
    trials = rising
    reached = [len(trial.rungs) for trial in trials]
    assert len(trials) == 16
    assert reached[0] == 3
    assert 1 <= reached.count(3) < reached.count(1)
    assert all(trial.score == trial.rungs[-1] for trial in trials)
    # At its rung, nobody who stopped was among the best half of those seen until then.
    for i, trial in enumerate(trials):
        last = len(trial.rungs) - 1
        others = [t.rungs[last] for t in trials[:i] if len(t.rungs) > last]
        among_best = sum(other > trial.rungs[last] for other in others) < max(1, (len(others) + 1) // 2)
        assert among_best is (len(trial.rungs) == 3) or last == 2
    best = winner(trials)
    assert len(best.rungs) == 3
    assert best.score == max(trial.score for trial in trials if len(trial.rungs) == 3)


@pytest.mark.slow
def test_halving_resumes_exactly_too(halved: tuple[SearchSpec, Bench], rising: list[Trial], told) -> None:
    wants, bench = halved
    rest = list(search(wants, bench, Ruler(bench.task, LIMITS), [RESNETS], done=rising[:9]))
    assert told(rising[:9] + rest) == told(rising)


def test_seeds_are_averaged(bench: Bench, teacher: ImageTeacher, few_digits: Dataset, spec) -> None:
    ruler = Ruler(bench.task)
    architecture = RESNETS.smallest(bench.task)
    one = [evaluate(spec(seeds=1, seed=seed), RESNETS, bench, architecture, ruler).score for seed in (0, 1)]
    both = spec(seeds=2)
    averaged = evaluate(both, RESNETS, prepare(both, teacher, few_digits), architecture, ruler)
    assert averaged.score == pytest.approx(sum(one) / 2)
    assert one[0] != one[1]


def test_the_teacher_is_looked_at_once_for_all_searches(
    teacher: ImageTeacher, few_digits: Dataset, tmp_path: Path, bench: Bench, spec
) -> None:
    first = prepare(spec(), teacher, few_digits, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    # Blind, and by its name and arguments still the same network.
    model = type(type(teacher.model).__name__, (nn.Identity,), {"_model_args": teacher.model._model_args})()
    blind = replace(teacher, model=model)
    again = prepare(spec(), blind, few_digits, cache=tmp_path)
    assert again.rungs[0].teacher.logits_BK.equal(first.rungs[0].teacher.logits_BK)
    assert first.rungs[0].teacher.logits_BK.equal(bench.rungs[0].teacher.logits_BK)
    # The same weights that see images otherwise give other answers.
    darker = replace(teacher, mean=tuple(m + 0.5 for m in teacher.mean))
    answers_BK = prepare(spec(), darker, few_digits, cache=tmp_path).rungs[0].teacher.logits_BK
    assert not answers_BK.equal(first.rungs[0].teacher.logits_BK)


@pytest.mark.slow
def test_half_precision_leaves_the_ranking_alone(teacher: ImageTeacher, few_digits: Dataset, spec) -> None:
    """The same candidates in bf16 and in fp32; the program `benchmarks.ranking` says it of the tables."""
    rng = random.Random(0)
    few = [{p.name: rng.choice(p.values[:4]) for p in RESNETS.parameters(few_digits.task)} for _ in range(24)]
    scores = []
    for precision in ("fp32", "bf16"):
        wants = spec(precision=precision)
        bench = prepare(wants, teacher, few_digits)
        scores.append([evaluate(wants, RESNETS, bench, a, Ruler(bench.task)).score for a in few])
    assert scores[0] != scores[1]
    assert kendalltau(*scores).statistic >= 0.98
