"""`archsearch serve`: the API and one worker beside it, which is started again whenever it dies."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from archsearch.settings import Settings

log = logging.getLogger(__name__)

# A worker that lived this long failed for a new reason; one that did not is started again ever more slowly.
_HEALTHY_S, _LONGEST_WAIT_S = 30.0, 30.0


def serve(settings: Settings, *, with_worker: bool = True) -> None:
    """Serve until interrupted."""
    import uvicorn

    log_to_stderr("serve")
    # uvicorn raises a signal once more when it has stopped; by default that would end this process on the spot,
    # and the worker with it, instead of letting it finish its step's transaction.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisor = Supervisor(settings) if with_worker else None
    if supervisor:
        supervisor.start()
    try:
        config = uvicorn.Config(
            api_module().create_app(settings),
            host=settings.host,
            port=settings.port,
            log_level="warning",
            # An open event stream must not keep the server from stopping.
            timeout_graceful_shutdown=2,
        )
        log.info("listening on http://%s:%s, data in %s", settings.host, settings.port, settings.data_dir.resolve())
        uvicorn.Server(config).run()
    finally:
        if supervisor:
            supervisor.stop()


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


class Supervisor:
    """Keeps one worker process alive."""

    def __init__(self, settings: Settings, name: str = "worker-1") -> None:
        self._command = [sys.executable, "-m", "archsearch", "worker", "--name", name, "--supervised"]
        # Not by flags: every user of the machine may read those, and a database's URL holds its password.
        self._environment = {
            **os.environ,
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
            log.warning("the worker ended with code %s; starting it again in %.1f s", code, wait_s)
            self._stopping.wait(wait_s)
