"""Starting and stopping: one server a folder, sentences instead of tracebacks, and nobody else reads what is kept."""

from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.service.server import ROOT, Server, clean, free_port, wait


def start(folder: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`archsearch serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "archsearch", "serve", "--data-dir", str(folder), *flags]
    return subprocess.run(
        command, cwd=ROOT, env=clean(environment), capture_output=True, text=True, timeout=60, check=False
    )


def check_refused(ended: subprocess.CompletedProcess[str], said: str) -> None:
    assert ended.returncode not in (0, None), ended
    assert re.search(said, ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "listening" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that runs, and whose worker is there."""
    server = Server(tmp_path_factory.mktemp("bare") / "data")
    try:
        wait(lambda: server.worker_pid() is not None, server.log.read_text)
        yield server
    finally:
        code = server.stop()
    assert code == 0, server.log.read_text()


def test_a_second_server_on_a_folder_says_so_and_ends(server: Server) -> None:
    worker = server.worker_pid()
    check_refused(start(server.folder, "--port", str(free_port())), r"a server runs on .* already: pid \d+")
    assert server.worker_pid() == worker


def test_a_port_that_is_taken_is_a_sentence_and_leaves_nothing_running(server: Server, tmp_path: Path) -> None:
    check_refused(start(tmp_path / "data", "--port", str(server.port)), "port .* cannot be listened on: .*in use")
    assert not (tmp_path / "data" / "archsearch.db").exists()


CLAIM = """
import sys
from pathlib import Path
from archsearch.serve import claim_folder
claim_folder(Path(sys.argv[1]))
Path(sys.argv[1], "new").touch()
"""


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "team"
    folder.mkdir()
    folder.chmod(0o2775)
    command = [sys.executable, "-c", CLAIM, str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "new")]
    assert modes == [0o2775, 0o600]
    assert "is open to other users (mode 2775)" in ended.stderr


def newer(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "archsearch.db")) as database:
        database.executescript(
            "CREATE TABLE archsearch_version (version_num VARCHAR(32)); INSERT INTO archsearch_version VALUES ('0999')"
        )


def garbage(folder: Path) -> None:
    (folder / "archsearch.db").write_bytes(b"no database " * 1000)


def nothing(folder: Path) -> None:
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "environment", "said"),
    [
        (nothing, {"ARCHSEARCH_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}, "127.0.0.1.* cannot be used: "),
        (nothing, {"ARCHSEARCH_MAX_ATTEMPTS": "many"}, "ARCHSEARCH_MAX_ATTEMPTS.*: .*integer"),
        (nothing, {"ARCHSEARCH_ALLOWED_HOSTS": "a, b"}, "allowed_hosts.*lists are written as JSON"),
        (nothing, {"ARCHSEARCH_DATABASE_URL": "mysql://x"}, "mysql is not supported"),
        (newer, {}, "from a later version of archsearch"),
        (garbage, {}, "cannot be used: file is not a database"),
    ],
)
def test_what_keeps_a_server_from_starting_is_a_sentence(
    tmp_path: Path, make: Callable[[Path], None], environment: dict[str, str], said: str
) -> None:
    make(tmp_path)
    ended = start(tmp_path, "--port", str(free_port()), **environment)
    check_refused(ended, said)
    assert "secret" not in ended.stderr


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_refused(start(tmp_path / "file" / "data", "--port", str(free_port())), "data_dir: .*data cannot be used: ")


@pytest.mark.slow
def test_a_server_stops_quickly_and_quietly_while_somebody_watches(tmp_path: Path) -> None:
    # What would be punctuation in a URL is a name like any other; so are spaces.
    server = Server(tmp_path / "what? 50% #1 data")
    try:
        assert (server.folder / "archsearch.db").exists()
        body = {
            "kind": "search",
            "teacher": {"kind": "timm", "name": "resnet18"},
            "data": {"kind": "digits"},
            "budget": {"params": 100_000},
        }
        wait(lambda: server.worker_pid() is not None, lambda: server.log.read_text())
        job_id = server.submit(body)
        seen: list[str] = []

        def watch() -> None:
            headers = {"Accept": "text/event-stream"}
            with httpx.stream("GET", f"{server.url}/v1/jobs/{job_id}/events", headers=headers, timeout=60) as stream:
                seen.extend(stream.iter_lines())

        watching = threading.Thread(target=watch)
        watching.start()
        wait(lambda: bool(seen), lambda: server.log.read_text())
        began = time.monotonic()
        assert server.stop() == 0
        took_s = time.monotonic() - began
        watching.join(5)
        assert not watching.is_alive()
    finally:
        if server.process.poll() is None:
            server.kill()
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log
    assert "Cancel" not in log
    assert took_s < 12, log


@pytest.mark.slow
def test_listening_beyond_this_machine_is_warned_of(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "archsearch", "serve", "--data-dir", str(tmp_path), "--host", "0.0.0.0"]
    log = tmp_path / "log"
    with log.open("w") as said:
        server = subprocess.Popen([*command, "--no-worker", "--port", str(port)], cwd=ROOT, env=clean({}), stderr=said)
    try:
        wait(lambda: "listening on http://0.0.0.0" in log.read_text(), lambda: log.read_text())
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
        assert "there are no keys" in log.read_text()
    finally:
        server.terminate()
        assert server.wait(20) == 0
