"""Bring the tables up to date at start-up, once, whoever comes first, and whole or not at all."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from archsearch.errors import Conflict

if TYPE_CHECKING:
    from alembic.config import Config

# Other tools' tables may live in the same database, and some use alembic's default name.
VERSION_TABLE = "archsearch_version"
_POSTGRES_LOCK = 0x61726368  # "arch"

# The first revision's tables, each with its columns, and what the next two added to candidates. Until they ran in one
# transaction, a process that was killed on SQLite could leave the tables without the revision's number.
_FIRST = {
    "events": "job_id seq at type data",
    "candidates": "job_id number architecture architecture_key params macs state score proxies votes reason seconds "
    "attempt",
    "artifacts": "id job_id name media_type size_bytes sha256 path created_at",
    "uploads": "id filename size_bytes sha256 status created_at",
    "teachers": "id name source data status attempt sha256 num_classes in_chans params macs selection_acc error "
    "created_at",
    "jobs": "id kind name request status phase progress eta_s attempt strikes worker heartbeat_at created_at "
    "started_at finished_at result error idempotency_key",
    "datasets": "id name format sha256 task splits created_at",
}
_ADDED = {
    "0001": ("rung", "rungs"),
    "0002": ("space", "size_bytes", "peak_activation_bytes", "latency_ms"),
    "0011": ("start",),
}

log = logging.getLogger(__name__)


def upgrade(engine: sa.Engine, lock_file: Path) -> None:
    """Run the migrations that are missing; several processes may call this at the same moment, or be killed in it.

    Args:
        lock_file: Where processes that share a data folder wait for each other. PostgreSQL has a lock of its own
            besides, for processes on other machines.

    Raises:
        Conflict: A later version of archsearch made these tables, or they are not archsearch's.
    """
    from alembic import command

    config = _config()
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with whole_transaction(engine) as connection:
            _check_version(connection, config)
            if connection.dialect.name == "sqlite":
                _heal(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def is_current(engine: sa.Engine) -> bool:
    """Whether no migration is missing; changes nothing."""
    from alembic.script import ScriptDirectory

    with engine.connect() as connection:
        return list(_versions(connection)) == ScriptDirectory.from_config(_config()).get_heads()


@contextmanager
def whole_transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that covers changes of tables too: killed at any instant, it leaves the tables as they were."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
                yield connection
            return
        # A table that others refer to is copied, dropped and renamed; with this on, their rows would go with it.
        # It cannot be changed inside a transaction, and SQLAlchemy begins none of its own for a pragma.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        try:
            # By itself the driver begins one only before it changes rows, and lets each change of a table stand alone.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            if dangling := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
                raise Conflict(f"{len(dangling)} rows would lose what they belong to; nothing was changed")
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    return config


def _scripts() -> Path:
    """The migrations: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "_alembic"
    return packaged if packaged.is_dir() else package.parent / "alembic"


def _check_version(connection: sa.Connection, config: Config) -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    for version in set(_versions(connection)) - known:
        raise Conflict(
            f"the database is from a later version of archsearch (its tables are {version}, this version knows "
            f"{scripts.get_current_head()} at most); upgrade archsearch, or use another data folder"
        )


def _versions(connection: sa.Connection) -> Sequence[str]:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return []
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()


def _heal(connection: sa.Connection) -> None:
    """Take back what a killed process left of a migration that did not run in one transaction."""
    tables = sa.inspect(connection).get_table_names()
    versions = _versions(connection)
    if not versions:
        _remove_first(connection, [table for table in _FIRST if table in tables])
    elif (added := _ADDED.get(versions[0])) and "candidates" in tables:
        if "_alembic_tmp_candidates" in tables:
            connection.execute(sa.text("DROP TABLE _alembic_tmp_candidates"))
        _remove_columns(connection, added, with_index=versions[0] == "0001")


def _remove_first(connection: sa.Connection, left: Sequence[str]) -> None:
    """Tables no migration is recorded for: empty ones with our columns are what a first start left that was killed."""
    for table in left:
        columns = {column["name"] for column in sa.inspect(connection).get_columns(table)}
        if columns != set(_FIRST[table].split()):
            raise Conflict(
                f"the database has a table {table} that is not archsearch's, which has one of that name itself; use "
                "another database"
            )
        if connection.execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).first() is not None:
            raise Conflict(
                f"the database has a table {table} with rows in it, and nothing says which version of archsearch made "
                "it; restore a backup, or use another data folder"
            )
    for table in left:
        connection.execute(sa.text(f"DROP TABLE {table}"))
    if left:
        log.warning("an earlier start was killed while it made the tables (%s); they are made anew", ", ".join(left))


def _remove_columns(connection: sa.Connection, added: Sequence[str], *, with_index: bool) -> None:
    inspector = sa.inspect(connection)
    left = [column["name"] for column in inspector.get_columns("candidates") if column["name"] in added]
    if not left:
        return
    for column in left:
        connection.execute(sa.text(f"ALTER TABLE candidates DROP COLUMN {column}"))
    if with_index and not any(index["name"] == "ix_candidates_score" for index in inspector.get_indexes("candidates")):
        connection.execute(sa.text("CREATE INDEX ix_candidates_score ON candidates (job_id, score)"))
    log.warning("an earlier upgrade was killed in the middle; columns %s are made anew", ", ".join(left))
