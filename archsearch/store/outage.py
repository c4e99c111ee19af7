"""Which of a database's errors pass by themselves: it is away, locked, full or out of connections."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from archsearch.errors import Unavailable

# Result codes of SQLite (sqlite.org/rescode.html) that say nothing of the statement, and what they mean.
_SQLITE = {
    sqlite3.SQLITE_BUSY: "the database is busy writing",
    sqlite3.SQLITE_LOCKED: "the database is busy writing",
    sqlite3.SQLITE_PROTOCOL: "the database is busy writing",
    sqlite3.SQLITE_FULL: "the disk of the database is full",
    sqlite3.SQLITE_IOERR: "the disk of the database does not answer as it should",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_READONLY: "the database cannot be written to",
    sqlite3.SQLITE_NOMEM: "the database is out of memory",
    sqlite3.SQLITE_INTERRUPT: "the database stopped before it was done",
}
# The same of PostgreSQL (appendix A of its manual): whole SQLSTATEs, and classes, which are their first two letters.
_POSTGRES = {
    "08": "the database does not answer",
    "25006": "the database cannot be written to",
    "40": "the database is busy writing",
    "53": "the database is out of disk, memory or connections",
    "55P03": "the database is busy writing",
    "57": "the database is stopping or starting",
    "58": "the disk of the database does not answer as it should",
}
_RETRY_AFTER_S = {"the disk of the database is full": 30}


def outage(error: BaseException) -> Unavailable | None:
    """What to tell of an error that passes by itself, without a word of SQL; None if it is about the statement."""
    if isinstance(error, PoolTimeout):
        return Unavailable("all connections to the database are in use")
    if isinstance(error, PendingRollbackError):  # what follows a connection lost in the middle of a transaction
        return Unavailable("the database does not answer")
    # Outside SQLAlchemy's hands the drivers raise their own; `orig` is theirs within.
    told = _told(error.orig if isinstance(error, DBAPIError) else error)
    if told is None and isinstance(error, DBAPIError) and error.connection_invalidated:
        told = "the database does not answer"
    return None if told is None else Unavailable(told, retry_after_s=_RETRY_AFTER_S.get(told, 2))


def _told(error: BaseException | None) -> str | None:
    if isinstance(error, sqlite3.Error):
        # The low byte is the code, those above it say more about the same.
        return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    # psycopg: no state at all means that no server ever answered.
    away = type(error).__module__.startswith("psycopg") and type(error).__name__ in (
        "OperationalError",
        "InterfaceError",
    )
    return "the database does not answer" if away else None
