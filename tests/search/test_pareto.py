from __future__ import annotations

import pytest

from archsearch.search import Trial, front, knee, winner
from archsearch.search.pareto import improves, ranked
from archsearch.spaces import Cost


def trial(number: int, score: float | None, macs: int, params: int = 1, rungs: int = 1) -> Trial:
    state = "failed" if score is None else "scored"
    reached = () if score is None else (score,) * rungs
    return Trial(number, "vit", {"depth": number}, Cost(params, macs), state, score, {}, {}, None, 0.0, reached)


def test_the_front_by_hand() -> None:
    cheap, middle, dear = trial(0, 1.0, 10), trial(1, 3.0, 20), trial(2, 4.0, 90)
    beaten, failed = trial(3, 2.9, 20), trial(4, None, 1)
    assert front([dear, beaten, failed, middle, cheap], "macs") == [cheap, middle, dear]
    assert front([failed], "macs") == []


def test_of_equals_on_the_front_the_smaller_stays_then_the_earlier() -> None:
    first, smaller, later = trial(0, 1.0, 10, params=9), trial(1, 1.0, 10, params=8), trial(2, 1.0, 10, params=8)
    assert front([first, later, smaller], "macs") == [smaller]
    assert front([trial(3, 1.0, 20, params=1), first], "macs") == [first]


def test_only_the_highest_rung_is_on_the_front() -> None:
    brief, close = trial(0, 99.0, 1, rungs=1), trial(1, 1.0, 10, rungs=3)
    assert front([brief, close], "macs") == [close]
    assert winner([brief, close]) is close


def test_a_trial_that_does_not_know_the_cost_is_not_on_the_front() -> None:
    assert front([trial(0, 1.0, 10)], "latency_ms") == []


def test_the_knee_by_hand() -> None:
    # Costs 1, 10, 100, 1000 lie at 0, 1/3, 2/3, 1; scores 0, 6, 9, 10 at 0, .6, .9, 1: .267, .233 above the chord.
    members = [trial(i, score, macs) for i, (score, macs) in enumerate([(0, 1), (6, 10), (9, 100), (10, 1000)])]
    assert knee(members, "macs") is members[1]
    assert winner(members, "knee", "macs") is members[1]
    assert winner(members) is members[3]


def test_equal_distances_go_to_the_smaller_then_to_the_earlier() -> None:
    scores = [(0, 1), (6, 10), (9.333333333333334, 100), (10, 1000)]
    members = [trial(i, score, macs, params=9 - i) for i, (score, macs) in enumerate(scores)]
    assert knee(members, "macs") is members[2]
    members = [trial(i, score, macs) for i, (score, macs) in enumerate(scores)]
    assert knee(members, "macs") is members[1]


def test_a_front_without_a_knee_gives_its_best() -> None:
    assert knee([], "macs") is None
    two = [trial(0, 0.0, 1), trial(1, 1.0, 10)]
    assert knee(two, "macs") is two[1]
    sagging = [trial(0, 0.0, 1), trial(1, 1.0, 10), trial(2, 10.0, 100)]
    assert knee(sagging, "macs") is sagging[2]
    with pytest.raises(ValueError, match="needs a cost"):
        winner(two, "knee")


def test_of_equal_scores_the_smaller_wins_then_the_earlier() -> None:
    first, smaller, later = trial(0, 1.0, 1, params=100), trial(1, 1.0, 1, params=90), trial(2, 1.0, 1, params=90)
    assert winner([first, later, smaller]) is smaller
    assert winner([first, trial(3, 1.5, 1, params=100), smaller]).number == 3
    assert winner([]) is None
    assert winner([trial(0, None, 1)]) is None


def test_ranking_peels_fronts_where_a_cost_is_traded() -> None:
    a, b, c, d = trial(0, 3.0, 10), trial(1, 1.0, 5), trial(2, 2.0, 10), trial(3, 5.0, 99)
    assert ranked([a, b, c, d, trial(4, None, 1)], None) == [d, a, c, b]
    assert ranked([a, b, c, d], "macs") == [a, b, d, c]


def test_what_counts_as_better() -> None:
    a, b = trial(0, 3.0, 10), trial(1, 2.0, 5)
    assert not improves(b, [a], None)
    assert improves(b, [a], "macs")
    assert improves(trial(2, 2.5, 9, rungs=2), [a], None)
    assert not improves(trial(2, None, 1), [], None)
