"""A job's candidates in order, however many there are: each question reads about as many rows as it answers with.

Failed candidates are those on rung 0 (`trials.candidate_of`), and numbers count from 0 without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from archsearch.store.models import Candidate, Job
from archsearch.store.queries import candidate, require


def _overview(*, without: tuple[str, ...]) -> Select[Any]:
    """Columns of jobs, and how many of their candidates were scored and failed, all in one statement."""
    jobs, candidates = Job.__table__, Candidate.__table__.c
    columns = [column for column in jobs.columns if column.name not in without]
    mine = candidates.job_id == jobs.c.id
    total = select(func.coalesce(func.max(candidates.number) + 1, 0)).where(mine).correlate(jobs).scalar_subquery()
    failed = select(func.count()).where(mine, candidates.rung == 0).correlate(jobs).scalar_subquery()
    return select(*columns, (total - failed).label("candidates_scored"), failed.label("candidates_failed"))


# Made once, as making a statement takes longer than SQLite takes to answer it. Results may be long: lists have none.
OVERVIEWS = _overview(without=("result", "plan", "idempotency_key"))
_OVERVIEW = _overview(without=("plan", "idempotency_key")).where(Job.__table__.c.id == bindparam("job_id"))


def overview(session: Session, job_id: str) -> Any:
    """A job's row with its counts; raises NotFound."""
    row = session.execute(_OVERVIEW, {"job_id": job_id}).first()
    return row if row is not None else require(session, Job, job_id)


def best(
    session: Session, job_id: str, limit: int, *, offset: int = 0, after: int | None = None
) -> Sequence[Candidate]:
    """A job's candidates, those looked at most closely first, best score first among them, failed ones last.

    Args:
        after: Go on after the candidate of this number; raises NotFound where there is none.
    """
    if after is None:
        # Skipped in the index, where it costs a tenth of skipping rows.
        page = _best_first(job_id).with_only_columns(Candidate.number).limit(limit).offset(offset).subquery()
        return session.scalars(_best_first(job_id).join(page, Candidate.number == page.c.number)).all()
    found: list[Candidate] = []
    for query in _behind(candidate(session, job_id, after, field="after")):
        found += session.scalars(query.limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def _best_first(job_id: str) -> Select[Candidate]:
    order = (Candidate.rung.desc(), Candidate.score.desc(), Candidate.params, Candidate.number)
    return select(Candidate).where(Candidate.job_id == job_id).order_by(*order)


def _behind(last: Candidate) -> Iterator[Select[Candidate]]:
    """All that comes after a candidate, as ranges of the index, which one condition with OR would not be."""
    ours = _best_first(last.job_id)
    same_rung = ours.where(Candidate.rung == last.rung)
    same_score = Candidate.score.is_(None) if last.score is None else Candidate.score == last.score
    smaller_first = tuple_(Candidate.params, Candidate.number) > tuple_(last.params, last.number)
    yield same_rung.where(same_score, smaller_first)
    if last.score is not None:
        yield same_rung.where(Candidate.score < last.score)
    yield ours.where(Candidate.rung < last.rung)


def front(session: Session, job_id: str, cost: str) -> list[Candidate]:
    """Those that no other beats in score without costing more, from the cheapest to the dearest: `search.front`, asked
    of the index, from the best score downwards. One pass over it in all, and no row but the front's own is read."""
    column: InstrumentedAttribute[float | None] = getattr(Candidate, cost)
    known = (Candidate.job_id == job_id, column.is_not(None))
    highest = select(Candidate.rung).where(*known, Candidate.rung > 0).order_by(Candidate.rung.desc()).limit(1)
    rung = session.scalar(highest)
    if rung is None:
        return []
    x = aliased(Candidate)
    x_cost: InstrumentedAttribute[float | None] = getattr(x, cost)
    best_first = (
        select(x.number)
        .where(x.job_id == job_id, x.rung == rung, x_cost.is_not(None))
        .order_by(x.score.desc(), x_cost, x.params, x.number)
        .limit(1)
    )
    row = select(Candidate.number, Candidate.score, column.label("cost")).where(Candidate.job_id == job_id)
    members = row.where(Candidate.number == best_first.scalar_subquery()).cte("members", recursive=True)
    cheaper = best_first.where(x.score < members.c.score, x_cost < members.c.cost).correlate(members)
    following = row.join(members, Candidate.number == cheaper.scalar_subquery())
    members = members.union_all(following)
    found = select(Candidate).where(Candidate.job_id == job_id, Candidate.number.in_(select(members.c.number)))
    return list(session.scalars(found.order_by(column)))


def knows(session: Session, job_id: str, cost: str) -> bool:
    """Whether a search looks at this cost: by its first candidates, as it does so for all or for none."""
    column: InstrumentedAttribute[float | None] = getattr(Candidate, cost)
    first = select(column).where(Candidate.job_id == job_id).order_by(Candidate.number).limit(100)
    values = session.scalars(first).all()
    return not values or any(value is not None for value in values)
