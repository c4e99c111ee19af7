"""The one way we open a database: our tables and the job engine's share it, so one transaction covers both."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from archsearch.errors import InvalidRequest, Unavailable

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 30_000

# A worker's threads (queue pollers, the takeover watch, the job itself) and an API's request threads each hold
# a connection only for one short transaction; these limits are far above what is ever open at once.
POOL_SIZE, POOL_OVERFLOW, POOL_TIMEOUT_S = 10, 20, 30


def connect(url: str) -> sa.Engine:
    """An engine on a SQLite file (`sqlite:///path`) or on PostgreSQL (`postgresql://…`, spoken through psycopg)."""
    target = _parse(url)
    if target.get_backend_name() == "sqlite":
        return _connect_sqlite(target)
    connect_args: dict[str, str | int] = {"application_name": "archsearch", "connect_timeout": 10}
    return sa.create_engine(
        target,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        # What the user wrote into the URL wins.
        connect_args={key: value for key, value in connect_args.items() if key not in target.query},
    )


@contextmanager
def telling(engine: sa.Engine) -> Iterator[None]:
    """A database that cannot be used is told in a sentence, for whoever starts a process on it."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise Unavailable(f"the database {_said(engine, error)}") from None


@contextmanager
def noting(engine: sa.Engine) -> Iterator[None]:
    """The same sentence for the log of a process that goes on trying."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        log.warning("the database %s", _said(engine, error))
        raise


def _said(engine: sa.Engine, error: sa.exc.SQLAlchemyError) -> str:
    # The driver's own words, which name hosts, users and databases: none of it is for clients.
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[-1]
    return f"{engine.url.render_as_string(hide_password=True)} cannot be used: {reason}"


def session_factory(engine: sa.Engine) -> sessionmaker[Session]:
    """Sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def writing(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A transaction to write in: committed at the end of the block, rolled back when it raises. Keep it short.

    On SQLite it is the only one from its start, so that what is read in it still holds at its end. On PostgreSQL that
    takes a lock on the rows.
    """
    with sessions.begin() as session:
        if session.get_bind().dialect.name == "sqlite":
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
        yield session


def is_sqlite(engine: sa.Engine) -> bool:
    """Whether the engine speaks to SQLite rather than PostgreSQL."""
    return engine.dialect.name == "sqlite"


def _parse(url: str) -> sa.URL:
    try:
        target = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise InvalidRequest("not a database URL; use sqlite:///path or postgresql://…", field="database_url") from None
    if target.drivername in ("postgresql", "postgres"):
        return target.set(drivername="postgresql+psycopg")
    if target.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise InvalidRequest(
            f"{target.drivername} is not supported; use sqlite:///path or postgresql://…", field="database_url"
        )
    if target.get_backend_name() == "sqlite" and target.database in (None, "", ":memory:"):
        raise InvalidRequest(
            "SQLite in memory is invisible to a worker process; use a file: sqlite:///path", field="database_url"
        )
    return target


def _connect_sqlite(target: sa.URL) -> sa.Engine:
    path = target.database or ""
    if not path.startswith("file:"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        target,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT_S,
        # The driver begins only before INSERT, UPDATE or DELETE, and then takes the write lock at once: a reader
        # holds no snapshot and blocks nobody, a writer never has to upgrade one (which fails at once, whatever
        # the busy timeout). DBOS relies on the same setting.
        connect_args={"isolation_level": "IMMEDIATE", "timeout": BUSY_TIMEOUT_MS / 1000},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    if sqlite3.sqlite_version_info < (3, 42):
        connection.create_function("unixepoch", -1, _unixepoch)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging, which it then remembers.

    SQLite does not wait out the busy timeout for this switch, so processes that open a fresh file at the same
    moment have to try again.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _unixepoch(*arguments: str) -> float:
    """SQLite's `unixepoch` for libraries older than 3.42, which do not know 'subsec': the present time only.

    DBOS calls it on Python 3.12 and later, in statements and in its tables' defaults.
    """
    if not {"now", "subsec", "subsecond"}.issuperset(arguments):
        raise ValueError(f"unixepoch{arguments}: only the present time is known here")
    now_s = time.time()
    return now_s if {"subsec", "subsecond"}.intersection(arguments) else int(now_s)
