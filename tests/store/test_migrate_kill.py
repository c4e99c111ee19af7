"""`kill -9` in the middle of a first start and of an upgrade: the next start works, and no row is lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config

from alembic import command
from archsearch.errors import Conflict
from archsearch.store.database import connect
from archsearch.store.migrate import VERSION_TABLE, upgrade
from archsearch.store.models import Row

ROOT = Path(__file__).parents[2]
CANDIDATES = 50_000

# Starts a process for every instant: it prepares the database as a server does, and is killed before its nth statement
# or after so many seconds; then another one prepares the same database to the end. Forked: importing takes longer.
KILLER = """
import json, os, shutil, signal, sys, time
from pathlib import Path
import sqlalchemy as sa
import alembic.command, alembic.script, dbos
from archsearch.engine import EngineClient
from archsearch.store.database import connect
from archsearch.store.migrate import upgrade

source, folder, instants = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
database = folder / "a.db"

def prepare(kill_at):
    count = 0
    def executing(*_):
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    engine = connect(f"sqlite:///{database}")
    sa.event.listen(engine, "before_cursor_execute", executing)
    upgrade(engine, folder / "lock")
    EngineClient(engine).prepare()
    return count

def run(kill_at=None, after_s=None):
    child = os.fork()
    if not child:
        os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        try:
            prepare(kill_at)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for instant in instants:
    for path in folder.glob("a.db*"):
        path.unlink()
    if source:
        shutil.copy(source, database)
    killed = run(kill_at=instant) if isinstance(instant, int) else run(after_s=instant)
    again = run()
    with connect(f"sqlite:///{database}").connect() as connection:
        kept = connection.execute(sa.text("SELECT count(*), count(DISTINCT number) FROM candidates")).one()
        version = connection.execute(sa.text("SELECT version_num FROM archsearch_version")).scalars().all()
        whole = connection.execute(sa.text("PRAGMA integrity_check")).scalar()
    print(json.dumps([instant, killed, again, list(kept), version, whole]), flush=True)
"""


def kill_at(source: str, folder: Path, instants: list[int | float]) -> list[list[object]]:
    command_ = [sys.executable, "-c", KILLER, source, str(folder), json.dumps(instants)]
    done = subprocess.run(command_, cwd=ROOT, capture_output=True, text=True)
    said = (folder / "said").read_text() if (folder / "said").exists() else ""
    assert done.returncode == 0, said + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def old_database(folder: Path, candidates: int, revision: str = "0001") -> Path:
    """A database of an earlier version with a job and its candidates."""
    path = folder / "old.db"
    engine = connect(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO jobs (id, kind, request, status, progress, attempt, strikes, created_at) "
                "VALUES ('job_1', 'search', '{}', 'succeeded', 1, 1, 0, CURRENT_TIMESTAMP)"
            )
        )
        rows = [{"number": number, "key": f'{{"depth":{number}}}'} for number in range(candidates)]
        insert = (
            "INSERT INTO candidates (job_id, number, architecture, architecture_key, params, macs, state, score, "
            "proxies, votes, seconds, attempt) "
            "VALUES ('job_1', :number, '{}', :key, 5, 6, 'scored', 1.5, '{}', '{}', 0.1, 1)"
        )
        if rows:
            connection.execute(sa.text(insert), rows)
    engine.dispose()
    # Into the one file that is copied.
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def head() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic"))
    from alembic.script import ScriptDirectory

    return [str(ScriptDirectory.from_config(config).get_current_head())]


@pytest.mark.slow
def test_a_first_start_may_be_killed_at_any_statement(tmp_path: Path) -> None:
    found = kill_at("", tmp_path, list(range(1, 120, 6)))
    assert len(found) == 20
    assert {killed for _, killed, *_ in found} == {-9}
    for instant, _, *after in found:
        assert after == [0, [0, 0], head(), "ok"], instant


@pytest.mark.slow
def test_an_upgrade_of_many_candidates_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    source = old_database(tmp_path, CANDIDATES)
    moments: list[int | float] = [*range(4, 40, 6), 0.05, 0.1, 0.2, 0.4, 0.8]
    found = kill_at(str(source), tmp_path, moments)
    assert [killed for _, killed, *_ in found[:6]] == [-9] * 6
    for instant, _, *after in found:
        assert after == [0, [CANDIDATES, CANDIDATES], head(), "ok"], instant


DATASETS = "id, name, format, sha256, task, splits, created_at"
# What was left by versions that changed tables one by one, as they were found after a kill.
LEFT = {
    "the first tables without a version": (
        None,
        "CREATE TABLE archsearch_version (version_num VARCHAR(32) NOT NULL);"
        f"CREATE TABLE datasets ({DATASETS});"
        "CREATE TABLE jobs (id, kind, name, request, status, phase, progress, eta_s, attempt, strikes, worker,"
        "heartbeat_at, created_at, started_at, finished_at, result, error, idempotency_key);"
        "CREATE INDEX ix_jobs_status ON jobs (status);",
    ),
    "not even the table of versions": (None, f"CREATE TABLE datasets ({DATASETS});"),
    "one of two columns": ("0001", "ALTER TABLE candidates ADD COLUMN rung BIGINT DEFAULT '0' NOT NULL;"),
    "columns and no index": (
        "0001",
        "ALTER TABLE candidates ADD COLUMN rung BIGINT DEFAULT '0' NOT NULL;"
        "ALTER TABLE candidates ADD COLUMN rungs JSON DEFAULT '[]' NOT NULL;"
        "DROP INDEX ix_candidates_score;",
    ),
    "a copy that was not renamed": ("0001", "CREATE TABLE _alembic_tmp_candidates (id VARCHAR);"),
    "the next upgrade's columns": (
        "0002",
        "ALTER TABLE candidates ADD COLUMN space VARCHAR DEFAULT '' NOT NULL;"
        "ALTER TABLE candidates ADD COLUMN size_bytes BIGINT;",
    ),
}


@pytest.mark.parametrize("left", LEFT)
def test_what_an_earlier_version_left_half_done_is_healed(tmp_path: Path, left: str) -> None:
    revision, statements = LEFT[left]
    path = tmp_path / "old.db"
    if revision is not None:
        old_database(tmp_path, 3)
        if revision == "0002":
            engine = connect(f"sqlite:///{path}")
            config = Config()
            config.set_main_option("script_location", str(ROOT / "alembic"))
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
            engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(statements)
    engine = connect(f"sqlite:///{path}")
    upgrade(engine, tmp_path / "lock")
    with engine.connect() as connection:
        keys = connection.execute(sa.text("SELECT architecture_key FROM candidates ORDER BY number")).scalars().all()
    assert keys == ([] if revision is None else [f'resnet_cifar {{"depth":{number}}}' for number in range(3)])
    assert set(Row.metadata.tables) <= set(sa.inspect(engine).get_table_names())
    engine.dispose()


def test_rows_nobody_can_place_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"CREATE TABLE datasets ({DATASETS}); INSERT INTO datasets (id) VALUES ('mine')")
    engine = connect(f"sqlite:///{path}")
    with pytest.raises(Conflict, match="a table datasets with rows in it"):
        upgrade(engine, tmp_path / "lock")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT id FROM datasets")).scalars().all() == ["mine"]
        assert sa.inspect(engine).get_table_names() == ["datasets"]
    engine.dispose()


def test_empty_tables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    theirs = {"_alembic_tmp_venues": ["id"], "events": ["id", "title", "venue"], "uploads": ["blob_id"]}
    with closing(sqlite3.connect(path)) as database:
        for table, columns in theirs.items():
            database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    engine = connect(f"sqlite:///{path}")
    with pytest.raises(Conflict, match="a table events that is not archsearch's"):
        upgrade(engine, tmp_path / "lock")
    inspector = sa.inspect(engine)
    found = {name: [each["name"] for each in inspector.get_columns(name)] for name in inspector.get_table_names()}
    assert found == theirs
    engine.dispose()


def test_tables_of_a_later_version_are_refused_in_a_sentence(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    upgrade(engine, tmp_path / "lock")
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
    with pytest.raises(Conflict, match=r"from a later version of archsearch .*0999"):
        upgrade(engine, tmp_path / "lock")
    engine.dispose()


def test_a_table_that_others_refer_to_may_be_copied(tmp_path: Path) -> None:
    """As batches of changes on SQLite do; with foreign keys on, dropping the original would take the others along."""
    from archsearch.store.migrate import whole_transaction

    path = old_database(tmp_path, 3)
    engine = connect(f"sqlite:///{path}")
    with whole_transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE copy AS SELECT * FROM jobs")
        connection.exec_driver_sql("DROP TABLE jobs")
        connection.exec_driver_sql("CREATE TABLE jobs (id VARCHAR PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO jobs SELECT id FROM copy")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM candidates").scalar() == 3
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()
