from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from archsearch.store.database import connect
from archsearch.store.outage import outage


def test_a_locked_file_passes_and_nothing_of_the_statement_is_told(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    with sqlite3.connect(tmp_path / "a.db", isolation_level=None) as other, engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n)")
        connection.commit()
        connection.exec_driver_sql("PRAGMA busy_timeout=1")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        other.execute("ROLLBACK")
    found = outage(caught.value)
    assert found is not None
    assert (found.detail, found.retryable) == ("the database is busy writing", True)
    other.close()
    engine.dispose()


def test_a_full_file_passes_later(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n)")
        connection.exec_driver_sql("PRAGMA max_page_count=3")
        with pytest.raises(DBAPIError) as caught:
            connection.execute(sa.text("INSERT INTO t VALUES (:n)"), {"n": "x" * 100_000})
    found = outage(caught.value)
    assert found is not None
    assert (found.detail, found.retry_after_s) == ("the disk of the database is full", 30)
    engine.dispose()


def test_a_server_nobody_runs_passes(tmp_path: Path) -> None:
    engine = connect(f"postgresql://tests@/postgres?host={tmp_path}")
    with pytest.raises(DBAPIError) as caught:
        engine.connect()
    found = outage(caught.value)
    assert found is not None
    assert found.detail == "the database does not answer"


def test_a_wrong_statement_never_passes(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        for statement in ("SELECT * FROM nowhere", "SELECT"):
            with pytest.raises(SQLAlchemyError) as caught:
                connection.exec_driver_sql(statement)
            assert outage(caught.value) is None
    engine.dispose()
