"""Rows and workflows say the same: whatever a row calls unfinished has a workflow that will finish it.

They part when a database was cut off in the middle, restored from a backup, or lost what a full disk did not take.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
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
# What a worker checks, by the workflow that does it.
_CHECKED: dict[str, Any] = {"teacher": TeacherRow, "dataset": DatasetRow, "profile": ProfileRow}


@dataclass
class Reconciler:
    """Looks after the unfinished rows of a database; call it now and then.

    Args:
        known: The workflows there are workers for.
        lock_dir: Where living workers hold their locks.
    """

    sessions: sessionmaker[Session]
    engine: Engine
    lock_dir: Path
    known: Set[str]
    # Heartbeats as they were last seen: one is called still once it has been seen twice.
    _beats: dict[str, datetime | None] = field(default_factory=dict)

    def __call__(self) -> None:
        with self.sessions() as session:
            unfinished = [(workflow, id) for workflow in sorted(self.known) for id in _unfinished(session, workflow)]
        for workflow, id in unfinished:
            self._look_after(workflow, id)
        self._release_still()

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
