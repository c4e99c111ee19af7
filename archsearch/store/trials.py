"""Trials as rows and back."""

from __future__ import annotations

from dataclasses import asdict

from archsearch.search import Trial, key
from archsearch.spaces import Cost
from archsearch.store.models import Candidate


def candidate_of(job_id: str, attempt: int, trial: Trial) -> Candidate:
    """The row a trial is kept in."""
    values = asdict(trial)
    values |= {**values.pop("cost"), "rung": trial.rung, "rungs": list(trial.rungs)}
    return Candidate(job_id=job_id, attempt=attempt, architecture_key=key(trial.space, trial.architecture), **values)


def trial_of(row: Candidate) -> Trial:
    """The trial a row keeps."""
    return Trial(
        number=row.number,
        space=row.space,
        architecture=dict(row.architecture),
        cost=Cost(row.params, row.macs, row.size_bytes, row.peak_activation_bytes, row.latency_ms),
        state=row.state,  # type: ignore[arg-type]
        score=row.score,
        proxies=row.proxies,
        votes=row.votes,
        reason=row.reason,
        seconds=row.seconds,
        rungs=tuple(row.rungs),
        start=row.start,  # type: ignore[arg-type]
    )
