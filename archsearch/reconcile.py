"""Rows and workflows say the same: whatever a row calls unfinished has a workflow that will finish it.

They part when a database was cut off in the middle, restored from a backup, or lost what a full disk did not take.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from archsearch.engine import Engine, Lane, living_workers
from archsearch.store.database import writing
from archsearch.store.models import TERMINAL, DatasetRow, Job, ProfileRow, TeacherRow, now

log = logging.getLogger(__name__)

# A living worker's job beats every ten seconds, but for a database that was away.
STALE_AFTER = timedelta(minutes=5)
# Deletions are rare, and what they leave is small; starts that are forgotten in one transaction.
FORGET_EVERY_S, _AT_ONCE = 3600.0, 500
# What a worker checks, by the workflow that does it; and all rows that have one.
_CHECKED: dict[str, Any] = {"teacher": TeacherRow, "dataset": DatasetRow, "profile": ProfileRow}
_TABLES = {**_CHECKED, "job": Job}


@dataclass
class Reconciler:
    """Looks after the unfinished rows of a database; call it now and then.

    Args:
        lock_dir: Where living workers hold their locks.
        known: The workflows there are workers for.
        limits_s: How long a check may take, by the workflow that does it.
    """

    sessions: sessionmaker[Session]
    engine: Engine
    lock_dir: Path
    known: Set[str]
    limits_s: Mapping[str, float]
    # Heartbeats as they were last seen: one is called still once it has been seen twice.
    _beats: dict[str, datetime | None] = field(default_factory=dict)
    _forgot_at: float = -math.inf

    def __call__(self) -> None:
        with self.sessions() as session:
            unfinished = [(workflow, id) for workflow in sorted(self.known) for id in _unfinished(session, workflow)]
        for workflow, id in unfinished:
            self._look_after(workflow, id)
        self._release_still()
        self._release_overdue([each for each in unfinished if each[0] in self.limits_s])
        if time.monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forget_deleted()
            self._forgot_at = time.monotonic()

    def _look_after(self, workflow: str, id: str) -> None:
        """Start it again if nothing else will."""
        lane: Lane = "heavy" if workflow == "job" else "light"
        with writing(self.sessions) as session:
            # Its row ends before its workflow does: a row that is still unfinished, and a workflow that is not there.
            if self.engine.owners(session, id) or id not in _unfinished(session, workflow):
                return
            start = self.engine.enqueue_again(session, workflow, id, id, lane=lane)
        log.warning("%s %s was left unfinished; it is taken up again as %s", workflow, id, start)

    def _release_still(self) -> None:
        """Jobs whose worker died where nobody could see its lock: their hearts have stopped."""
        living = living_workers(self.lock_dir)
        with self.sessions() as session:
            running = select(Job).where(Job.status.in_(("running", "cancelling")))
            beats = {job.id: job.heartbeat_at for job in session.scalars(running)}
            still = [id for id, beat in beats.items() if self._beats.get(id) == beat and _is_stale(beat)]
            owners = {id: self.engine.owners(session, id) for id in still}
        self._beats = beats
        for id, starts in owners.items():
            for start, owner in starts.items():
                if owner is not None and owner not in living:
                    log.warning("job %s stands still and worker %s is gone; it is taken up again", id, owner)
                    self.engine.release(start, owner)

    def _release_overdue(self, checks: Sequence[tuple[str, str]]) -> None:
        """Checks whose worker died where nobody could see its lock: they have taken longer than they may."""
        living = living_workers(self.lock_dir)
        for workflow, id in checks:
            with self.sessions() as session:
                overdue = self.engine.overdue(session, id, self.limits_s[workflow] + STALE_AFTER.total_seconds())
            for start, owner in overdue.items():
                if owner not in living:
                    log.warning("%s %s is overdue and worker %s is gone; it is taken up again", workflow, id, owner)
                    self.engine.release(start, owner)

    def _forget_deleted(self) -> None:
        """What the engine kept of rows that were deleted."""
        for workflow in sorted(self.known & _TABLES.keys()):
            with self.sessions() as session:
                # In this order: a start is committed with its row, so that one seen here has its row there.
                ended = self.engine.ended(session, workflow)
                rows = set(session.scalars(select(_TABLES[workflow].id)))
            gone = [start for start, id in ended.items() if id not in rows]
            for first in range(0, len(gone), _AT_ONCE):
                self.engine.forget(gone[first : first + _AT_ONCE])


def _unfinished(session: Session, workflow: str) -> Sequence[str]:
    if workflow == "job":
        return session.scalars(select(Job.id).where(Job.status.not_in(TERMINAL))).all()
    table = _CHECKED.get(workflow)
    if table is None:
        return ()
    ids: Sequence[str] = session.scalars(select(table.id).where(table.status == "checking")).all()
    return ids


def _is_stale(beat: datetime | None) -> bool:
    return beat is not None and now() - beat > STALE_AFTER
