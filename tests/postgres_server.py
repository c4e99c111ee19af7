"""A real PostgreSQL for tests: ask for `postgres_url`."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from archsearch.store.database import connect


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, the newest if there are several."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


def _identity() -> dict[str, Any]:
    """Whom to run the server as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


class PostgresServer:
    """A server of its own in a folder, reached through a socket, that can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._identity = _identity()
        if self._identity:
            os.chown(folder, self._identity["user"], self._identity["group"])
        self.folder, self.url = folder, f"postgresql://tests@/postgres?host={folder}"
        self._control = [programs / "pg_ctl", "-D", folder / "data", "-w"]
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "tests", "-A", "trust", "-N", "-E", "UTF8"]
        self._run(*initdb)
        self.start()

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self._run(*self._control, "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str) -> None:
        """As `pg_ctl stop -m` does: smart waits for all clients to leave, and here they never do."""
        if mode == "smart":
            self._run(*self._control, "-m", "smart", "-t", "3", "stop", check=False)
            mode = "fast"
        self._run(*self._control, "-m", mode, "stop")

    def database(self, name: str) -> str:
        """The URL of a new database."""
        engine = connect(self.url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url.replace("/postgres?", f"/{name}?")

    def _run(self, *command: Path | str, check: bool = True) -> None:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=check, cwd=self.folder, **quiet, **self._identity)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; skips the test without PostgreSQL."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL: initdb is neither on PATH nor in /usr/lib/postgresql")
    pytest.importorskip("psycopg")
    # Not under tmp_path: pytest closes that folder to other users, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        server = PostgresServer(programs, folder)
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """One server for all tests that leave it running; skips without PostgreSQL."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(shared_postgres: PostgresServer) -> str:
    """The URL of an empty database, the test's own; skips without PostgreSQL."""
    return shared_postgres.database(f"t{secrets.token_hex(6)}")
