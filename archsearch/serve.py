"""`archsearch serve`: the API and one worker beside it, which is started again whenever it dies."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from archsearch import gpus, locks
from archsearch.engine import EngineClient
from archsearch.errors import Conflict, InvalidRequest
from archsearch.settings import Settings
from archsearch.store.database import connect, telling
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade

log = logging.getLogger(__name__)

# A worker that lived this long failed for a new reason; one that did not is started again ever more slowly.
_HEALTHY_S, _LONGEST_WAIT_S = 30.0, 30.0


def serve(settings: Settings, *, with_worker: bool = True) -> None:
    """Serve until interrupted. Whatever keeps it from starting is raised as an error of ours, a sentence each."""
    log_to_stderr("serve")
    # uvicorn raises a signal once more when it has stopped; by default that would end this process on the spot,
    # and the worker with it, instead of letting it finish its step's transaction.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    claim_folder(settings.data_dir)
    if with_worker and settings.gpus is not None:
        gpus.chosen(settings.gpus)  # before anything is waited for
    if with_worker:
        _only_server(settings.data_dir)
    with _listen(settings.host, settings.port) as listener:
        prepare(settings)
        with supervised(settings) if with_worker else nullcontext():
            _answer(settings, listener)


def claim_folder(folder: Path) -> None:
    """Make the data folder, and keep what is in it from other users of the machine: images, weights, the database.

    One that is there stays as it is, for others may work in it: what this process makes there is closed to them.
    """
    os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            log.warning(
                "%s is open to other users (mode %o); what is kept in it is not, but for its names", folder, mode
            )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        detail = f"{folder} cannot be used: {error.strerror}; choose another with --data-dir"
        raise InvalidRequest(detail, field="data_dir") from None


def prepare(settings: Settings) -> None:
    """Bring the database up to date, or say what is wrong with it, before anything else is started."""
    files = Files(settings.data_dir)
    database = connect(settings.url)
    client = EngineClient(database)
    try:
        with telling(database):
            upgrade(database, files.root / "migrate.lock")
            client.prepare()
    finally:
        client.close()
        database.dispose()


def _only_server(folder: Path) -> None:
    """Until this process ends: the kernel drops the lock."""
    locks.take_for_good(
        folder / "serve.lock", f"a server runs on {folder} already: {{}}; stop it, or use another with --data-dir"
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket of this address, ours before anything is started for it."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        detail = f"{host} port {port} cannot be listened on: {error.strerror}; choose others with --host and --port"
        raise Conflict(detail) from None
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        log.warning("there are no keys: whoever reaches %s from another machine may use, and cancel, everything", host)
    return listener


def _answer(settings: Settings, listener: socket.socket) -> None:
    import uvicorn

    app = api_module().create_app(settings)

    # uvicorn tells of neither moment in another way.
    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            # What was made once stays: to look for garbage in all of it takes a tenth of a second, again and again.
            gc.collect()
            gc.freeze()
            if self.started:
                host, port = listener.getsockname()[:2]
                log.info("listening on http://%s:%s, data in %s", host, port, settings.data_dir.resolve())

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.leaving = True  # event streams end by themselves, instead of being torn off
            super().handle_exit(sig, frame)

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    Server(config).run(sockets=[listener])


def log_to_stderr(process: str) -> None:
    """Log lines say which process they come from; libraries only warn."""
    logging.basicConfig(
        level=logging.WARNING, format=f"%(asctime)s {process} %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("archsearch").setLevel(logging.INFO)


def api_module() -> Any:
    """The API: inside an installed wheel, or at the top of a checkout."""
    package = "archsearch._api" if importlib.util.find_spec("archsearch._api") else "api"
    return importlib.import_module(f"{package}.main")


@contextmanager
def supervised(settings: Settings, name: str = "worker-1") -> Iterator[None]:
    """One worker process, or one for each GPU that is named, for as long as this goes on; each has its own name."""
    if settings.gpus is None:
        keepers = [Supervisor(settings, name)]
    else:
        keepers = [Supervisor(settings, f"{name}-gpu{gpu}", gpu) for gpu in gpus.chosen(settings.gpus)]
    for keeper in keepers:
        keeper.start()
    try:
        yield
    finally:
        ending = [threading.Thread(target=keeper.stop) for keeper in keepers]  # all at once: each may take its time
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()


class Supervisor:
    """Keeps one worker process alive, on one GPU where that is named."""

    def __init__(self, settings: Settings, name: str = "worker-1", gpu: str | None = None) -> None:
        self._command = [sys.executable, "-m", "archsearch", "worker", "--name", name, "--supervised"]
        # Not by flags: every user of the machine may read those, and a database's URL holds its password.
        self._name = name
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "ARCHSEARCH_GPUS"},
            **gpus.environment(gpu),
            "ARCHSEARCH_DATA_DIR": str(settings.data_dir.resolve()),
            "ARCHSEARCH_DATABASE_URL": settings.url,
        }
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_alive, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the worker; a job it is in the middle of goes on at the next start."""
        self._stopping.set()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._thread.join(5)

    def _keep_alive(self) -> None:
        wait_s = 0.2
        while not self._stopping.is_set():
            started = time.monotonic()
            # The pipe is never written to: it closes when this process ends, and the worker with it.
            with subprocess.Popen(self._command, env=self._environment, stdin=subprocess.PIPE) as process:
                self._process = process
                code = process.wait()
            if self._stopping.is_set():
                return
            wait_s = 0.2 if time.monotonic() - started > _HEALTHY_S else min(2 * wait_s, _LONGEST_WAIT_S)
            log.warning("worker %s ended with code %s; starting it again in %.1f s", self._name, code, wait_s)
            self._stopping.wait(wait_s)
