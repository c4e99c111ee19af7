from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from archsearch.errors import InvalidRequest
from archsearch.store.database import connect, is_sqlite, session_factory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'new folder' / 'a.db'}")
    yield engine
    engine.dispose()


def test_every_sqlite_connection_is_set_up(engine: sa.Engine) -> None:
    assert is_sqlite(engine)
    wanted = {"journal_mode": "wal", "busy_timeout": 30_000, "synchronous": 1, "foreign_keys": 1}
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            assert {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted


def test_unixepoch_knows_fractions_of_a_second(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        seen = [connection.execute(sa.select(sa.func.unixepoch("subsec"))).scalar_one() for _ in range(3)]
        assert isinstance(connection.execute(sa.select(sa.func.unixepoch())).scalar_one(), int)
    assert all(abs(time.time() - value) < 5 for value in seen)
    assert any(value != int(value) for value in seen)


def test_readers_do_not_wait_for_a_writer_and_writers_wait_for_each_other(engine: sa.Engine) -> None:
    sessions = session_factory(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    with sessions() as writer:
        writer.execute(sa.text("INSERT INTO t VALUES (1)"))
        with sessions() as reader:
            started = time.monotonic()
            assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar_one() == 0
            assert time.monotonic() - started < 1
        threading.Timer(0.2, writer.commit).start()
        with sessions() as second:
            # Reads first: a snapshot held since then would make this write fail at once.
            second.execute(sa.text("SELECT * FROM t")).all()
            second.execute(sa.text("INSERT INTO t SELECT count(*) + 1 FROM t"))
            second.commit()
            assert second.scalars(sa.text("SELECT n FROM t ORDER BY n")).all() == [1, 2]


def test_many_threads_write_without_an_error(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO t VALUES (0)")
    failures: list[Exception] = []

    def add() -> None:
        try:
            for _ in range(10):
                with engine.begin() as connection:
                    connection.exec_driver_sql("UPDATE t SET n = n + 1")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT n FROM t").scalar_one() == 200


def test_processes_may_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom archsearch.store.database import connect\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "connect(sys.argv[1]).connect().exec_driver_sql('PRAGMA user_version')\n"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'a.db'}", str(time.time() + 1.5)]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(6)]
    assert [process.communicate()[1] for process in running] == [b""] * 6
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize("url", ["postgresql://h/d", "postgres://h/d", "postgresql+psycopg://h/d"])
def test_postgresql_is_spoken_through_psycopg(url: str) -> None:
    engine = connect(url)
    assert engine.url.drivername == "postgresql+psycopg"
    assert not is_sqlite(engine)


@pytest.mark.parametrize("url", ["mysql://h/d", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused_with_a_hint(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"sqlite:///path") as caught:
        connect(url)
    assert caught.value.field == "database_url"
