from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from archsearch.errors import NotFound
from archsearch.search import front
from archsearch.store import queries, scored
from archsearch.store.models import Candidate, Job
from archsearch.store.trials import trial_of

MANY = 600


def row(number: int, rng: random.Random, **values: Any) -> dict[str, Any]:
    """Few different values, so that much is equal to much."""
    rung = rng.choice((0, 1, 1, 2))
    params = rng.randrange(40)
    score = None if rung == 0 else params / 20 + rng.randrange(8)
    found = {
        "job_id": "job_1", "number": number, "space": "vit", "architecture": {"n": number},
        "architecture_key": str(number), "params": params, "macs": 5 * 10**9 + rng.randrange(30), "size_bytes": None,
        "peak_activation_bytes": None, "latency_ms": rng.randrange(9) / 2, "state": "scored" if rung else "failed",
        "score": score, "proxies": {}, "votes": {}, "reason": None, "seconds": 0.1, "rung": rung,
        "rungs": [score] * rung, "attempt": 1,
    }  # fmt: skip
    return {**found, **values}


@pytest.fixture
def many(session: Session) -> Session:
    rng = random.Random(0)
    session.add(Job(id="job_1", kind="search", request={}, status="running"))
    session.flush()
    session.execute(sa.insert(Candidate), [row(number, rng) for number in range(MANY)])
    return session


def order(candidate: Candidate) -> tuple[Any, ...]:
    return -candidate.rung, -(candidate.score or 0.0), candidate.params, candidate.number


def test_the_best_come_first_the_smaller_of_equals_and_failed_ones_last(many: Session) -> None:
    wanted = [candidate.number for candidate in sorted(queries.candidates(many, "job_1"), key=order)]
    assert [candidate.number for candidate in scored.best(many, "job_1", MANY)] == wanted
    assert [candidate.number for candidate in scored.best(many, "job_1", 7, offset=500)] == wanted[500:507]
    assert scored.best(many, "job_2", 10) == []


def test_pages_one_after_the_other_hold_every_candidate_once(many: Session) -> None:
    wanted = [candidate.number for candidate in sorted(queries.candidates(many, "job_1"), key=order)]
    found: list[int] = []
    while page := scored.best(many, "job_1", 97, after=found[-1] if found else None):
        found += [candidate.number for candidate in page]
    assert found == wanted
    with pytest.raises(NotFound, match="no candidate 600"):
        scored.best(many, "job_1", 1, after=MANY)


@pytest.mark.parametrize("cost", ["params", "macs", "latency_ms", "size_bytes"])
def test_the_front_asked_of_the_index_is_the_front_of_all_trials(many: Session, cost: str) -> None:
    trials = [trial_of(candidate) for candidate in queries.candidates(many, "job_1")]
    wanted = [trial.number for trial in front(trials, cost)]
    assert [candidate.number for candidate in scored.front(many, "job_1", cost)] == wanted
    assert scored.knows(many, "job_1", cost) == (cost != "size_bytes") == bool(wanted)
    assert scored.front(many, "job_2", cost) == []
    assert scored.knows(many, "job_2", cost)


def test_failures_are_no_scores(many: Session) -> None:
    found = scored.overview(many, "job_1")
    states = [candidate.state for candidate in queries.candidates(many, "job_1")]
    assert (found.candidates_scored, found.candidates_failed) == (states.count("scored"), states.count("failed"))
    many.add(Job(id="job_2", kind="search", request={}, status="queued"))
    many.flush()
    found = many.execute(scored.OVERVIEWS.where(Job.id == "job_2")).one()
    assert (found.candidates_scored, found.candidates_failed) == (0, 0)
    assert "result" not in found._fields


def test_no_page_is_cut_from_a_sorted_whole(many: Session) -> None:
    if many.get_bind().dialect.name != "sqlite":
        pytest.skip("SQLite tells its plan before it has statistics")
    asked: list[tuple[str, Any]] = []
    sa.event.listen(many.connection(), "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    scored.best(many, "job_1", 10, after=5)
    scored.best(many, "job_1", 10, offset=100)
    scored.overview(many, "job_1")
    plans = [
        [step[3] for step in many.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
        for statement, values in asked.copy()
    ]
    assert all("ix_candidates_score" in " ".join(plan) for plan in plans[1:]), plans
    # Equals are sorted among themselves, and a page once it is cut.
    sorted_whole = [plan for plan in plans if "USE TEMP B-TREE FOR ORDER BY" in plan and "SCAN anon_1" not in plan]
    assert not sorted_whole
