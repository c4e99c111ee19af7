"""Bring the tables up to date at start-up, once, whoever comes first."""

from __future__ import annotations

import fcntl
from pathlib import Path

import sqlalchemy as sa

# Other tools' tables may live in the same database, and some use alembic's default name.
VERSION_TABLE = "archsearch_version"
_POSTGRES_LOCK = 0x61726368  # "arch"


def upgrade(engine: sa.Engine, lock_file: Path) -> None:
    """Run the migrations that are missing; several processes may call this at the same moment.

    Args:
        lock_file: Where processes that share a data folder wait for each other. PostgreSQL has a lock of its own
            besides, for processes on other machines.
    """
    from alembic.config import Config

    from alembic import command

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _scripts() -> Path:
    """The migrations: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "_alembic"
    return packaged if packaged.is_dir() else package.parent / "alembic"
