from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from alembic import command
from archsearch.store.database import connect, session_factory
from archsearch.store.migrate import VERSION_TABLE, upgrade
from archsearch.store.models import Candidate, Row, TeacherRow
from archsearch.store.trials import trial_of

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[2]

UPGRADE = """
import sys, time
from pathlib import Path
from archsearch.engine import EngineClient
from archsearch.store.trials import trial_of
from archsearch.store.database import connect, session_factory
from archsearch.store.migrate import upgrade
engine = connect(sys.argv[1])
time.sleep(max(0, float(sys.argv[3]) - time.time()))
upgrade(engine, Path(sys.argv[2]))
EngineClient(engine).prepare()
"""


@pytest.fixture
def engine(empty_url: str) -> Iterator[sa.Engine]:
    engine = connect(empty_url)
    yield engine
    engine.dispose()


def differences(engine: sa.Engine) -> list[object]:
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        found: list[object] = compare_metadata(context, Row.metadata)
        return found


def test_the_migrations_build_exactly_the_models(engine: sa.Engine, tmp_path: Path) -> None:
    assert differences(engine)
    upgrade(engine, tmp_path / "lock")
    assert differences(engine) == []
    tables = set(sa.inspect(engine).get_table_names())
    assert tables == {*Row.metadata.tables, "archsearch_version"}


def test_a_second_upgrade_changes_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    upgrade(engine, tmp_path / "lock")
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO uploads (id, status, created_at) VALUES ('up_1', 'open', CURRENT_TIMESTAMP)")
        )
    upgrade(engine, tmp_path / "lock")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT id FROM uploads")).scalars().all() == ["up_1"]
        assert len(connection.execute(sa.text(f"SELECT * FROM {VERSION_TABLE}")).all()) == 1


@pytest.mark.slow
def test_processes_may_upgrade_at_the_same_moment(engine: sa.Engine, empty_url: str, tmp_path: Path) -> None:
    # A lock file each: on PostgreSQL they might be on three machines. On SQLite they share a folder, and so the file.
    own = engine.dialect.name == "postgresql"
    start = str(time.time() + 2.5)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, empty_url, str(tmp_path / f"lock{i if own else ''}"), start],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
    with engine.connect() as connection:
        assert len(connection.execute(sa.text(f"SELECT * FROM {VERSION_TABLE}")).all()) == 1


def test_there_is_a_way_back(engine: sa.Engine, tmp_path: Path) -> None:
    upgrade(engine, tmp_path / "lock")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["archsearch_version"]
    upgrade(engine, tmp_path / "lock")
    assert differences(engine) == []


Move = Callable[[str], None]


@pytest.fixture
def move(engine: sa.Engine) -> Move:
    """Bring the database to a revision, up or down."""
    current = "0000"

    def to(revision: str) -> None:
        nonlocal current
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(ROOT / "alembic"))
            config.attributes["connection"] = connection
            (command.upgrade if revision > current else command.downgrade)(config, revision)
        current = revision

    return to


def test_what_is_known_of_a_teacher_is_kept_as_facts(engine: sa.Engine, move: Move) -> None:
    def rows(columns: str) -> list[tuple[object, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(f"SELECT {columns} FROM teachers ORDER BY id"))]

    move("0008")
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO teachers (id, source, status, attempt, num_classes, in_chans, class_names, params, macs, "
                "measured_on, selection_acc, created_at) VALUES ('tch_1', '{}', 'ready', 1, 2, 3, '[\"a\", \"b\"]', "
                "5000000000, 7, '{\"height\": 8}', 97.5, CURRENT_TIMESTAMP), ('tch_2', '{}', 'refused', 1, NULL, NULL, "
                "NULL, NULL, NULL, NULL, NULL, CURRENT_TIMESTAMP)"
            )
        )
    before = rows("id, num_classes, params, selection_acc, status, created_at")
    move("0009")
    with session_factory(engine)() as session:
        known, unknown = session.scalars(sa.select(TeacherRow).order_by(TeacherRow.id))
    assert known.facts == {
        "num_classes": 2, "in_chans": 3, "class_names": ["a", "b"], "params": 5_000_000_000, "macs": 7,
        "measured_on": {"height": 8}, "selection_acc": 97.5,
    }  # fmt: skip
    assert unknown.facts is None
    move("0008")
    assert rows("id, num_classes, params, selection_acc, status, created_at") == before


def test_candidates_of_the_first_release_keep_their_space(engine: sa.Engine, move: Move) -> None:
    current = "0002"

    def kept() -> list[tuple[object, ...]]:
        columns = "job_id, architecture_key" + (", space, latency_ms" if current == "0003" else "")
        with engine.connect() as connection:
            found = connection.execute(sa.text(f"SELECT {columns} FROM candidates ORDER BY job_id"))
            return [tuple(row) for row in found]

    move("0002")
    requests = {"job_1": '{"search": {"space": "vit"}}', "job_2": '{"kind": "search"}'}
    with engine.begin() as connection:
        for job, request in requests.items():
            connection.execute(
                sa.text(
                    "INSERT INTO jobs (id, kind, request, status, progress, attempt, strikes, created_at) "
                    "VALUES (:job, 'search', :request, 'succeeded', 1, 1, 0, CURRENT_TIMESTAMP)"
                ),
                {"job": job, "request": request},
            )
            connection.execute(
                sa.text(
                    "INSERT INTO candidates (job_id, number, architecture, architecture_key, params, macs, state, "
                    "score, proxies, votes, seconds, attempt, rung, rungs) "
                    "VALUES (:job, 0, '{}', :key, 5, 6, 'scored', 1.5, '{}', '{}', 0.1, 1, 1, '[1.5]')"
                ),
                {"job": job, "key": '{"depth":1}'},
            )
    before = kept()
    move("0003")
    current = "0003"
    assert kept() == [
        ("job_1", 'vit {"depth":1}', "vit", None),
        ("job_2", 'resnet_cifar {"depth":1}', "resnet_cifar", None),
    ]
    move("0002")
    current = "0002"
    assert kept() == before


def test_candidates_of_old_began_with_noise(engine: sa.Engine, move: Move, tmp_path: Path) -> None:
    move("0011")
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO jobs (id, kind, request, status, progress, attempt, strikes, created_at) "
                "VALUES ('job_1', 'search', '{}', 'running', 0.5, 1, 0, CURRENT_TIMESTAMP)"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO candidates (job_id, number, space, architecture, architecture_key, params, macs, state, "
                "score, proxies, votes, seconds, attempt, rung, rungs) "
                "VALUES ('job_1', 0, 'vit', '{\"depth\": 1}', 'vit 1', 5, 6, 'scored', 1.5, '{}', '{}', 0.1, 1, 1, "
                "'[1.5]')"
            )
        )
    upgrade(engine, tmp_path / "lock")
    with session_factory(engine)() as session:
        (row,) = session.scalars(sa.select(Candidate))
        # As a job that goes on reads it: of the race of those that begin with noise.
        assert (row.start, trial_of(row).start, trial_of(row).score) == ("scratch", "scratch", 1.5)
    move("0011")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT score FROM candidates")).scalars().all() == [1.5]


def test_our_folder_of_migrations_does_not_hide_the_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert not (ROOT / "alembic" / "versions" / "__init__.py").exists()
    program = "import alembic.command as c; print(c.__file__)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not Path(found.stdout).is_relative_to(ROOT / "alembic")
