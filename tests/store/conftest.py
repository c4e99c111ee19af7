"""Real databases: a SQLite file, and a PostgreSQL database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from archsearch.store.database import connect, session_factory
from archsearch.store.migrate import upgrade


def empty_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a database with nothing in it, of the kind the test was parametrised with."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'a.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return empty_database(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    """A transaction on fresh tables, rolled back at the end."""
    engine = connect(empty_database(request, tmp_path))
    upgrade(engine, tmp_path / "lock")
    with session_factory(engine)() as session:
        yield session
    engine.dispose()
