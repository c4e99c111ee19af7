"""The worker process: takes jobs from the queue and does them, one at a time."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from archsearch.device import describe
from archsearch.engine import EngineClient, Worker, tell_device
from archsearch.jobs import workflows
from archsearch.memory import keep_freed
from archsearch.patience import outlast
from archsearch.reconcile import Reconciler
from archsearch.serve import claim_folder, log_to_stderr
from archsearch.serve import supervised as supervised_workers
from archsearch.settings import Settings
from archsearch.storage import Retention, Store, prune_now_and_then
from archsearch.store.database import connect, noting, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.workplace import Workplace

log = logging.getLogger(__name__)


def work(settings: Settings, name: str, *, supervised: bool = False) -> None:
    """Work until told to stop. A Conflict says who has the name already.

    Args:
        name: Stable over restarts: a worker that comes back under its name resumes what it left.
        supervised: Started by `serve`: standard input is a pipe that closes when the parent is gone, however it went.
    """
    if supervised:
        threading.Thread(target=_die_with_parent, name="parent-watch", daemon=True).start()
    log_to_stderr(name)
    keep_freed()
    claim_folder(settings.data_dir)
    files = Files(settings.data_dir)
    database = connect(settings.url)
    client = EngineClient(database)

    def prepare() -> None:
        # It may be restarting, and it may be called otherwise: only whoever reads the log can tell.
        with noting(database):
            upgrade(database, files.root / "migrate.lock")
            client.prepare()

    outlast(prepare, pause=time.sleep, told=lambda reason: log.warning("%s; waiting", reason))
    place = Workplace(session_factory(database), files, settings, name)
    known = workflows(place)
    limits_s = {
        "teacher": settings.check_time_limit_s,
        "dataset": settings.intake_limit_s,
        "profile": settings.intake_limit_s,
    }
    worker = Worker(
        database,
        name=name,
        lock_dir=files.workers,
        poll_interval_s=settings.poll_interval_s,
        workflows=known,
        tidy=Reconciler(place.sessions, client, files.workers, frozenset(known), limits_s),
    )
    # torch takes seconds to import; better while nobody waits than inside the first job.
    threading.Thread(target=_import_torch, args=(files.workers, name), name="warm-up", daemon=True).start()
    if settings.prune_every_h:
        kept = (Store(place.sessions, files), Retention.of(settings), 3600 * settings.prune_every_h)
        threading.Thread(target=prune_now_and_then, args=kept, name="prune", daemon=True).start()
    worker.serve()
    client.close()
    database.dispose()


def work_on_each(settings: Settings, name: str) -> None:
    """Keep a worker process on each GPU the settings name, until told to stop; `name` is what theirs begin with."""
    log_to_stderr(name)
    claim_folder(settings.data_dir)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    with supervised_workers(settings, name):
        told.wait()


def _die_with_parent() -> None:
    # Not sys.stdin.buffer: an ordinary exit would find its lock taken by this thread, and abort.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


def _import_torch(folder: Path, name: str) -> None:
    """And say, for whoever asks which workers there are, what this one computes on."""
    import timm  # noqa: F401

    with suppress(OSError):
        tell_device(folder, name, describe("auto"))
