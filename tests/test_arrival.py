"""What a worker reads and checks, as its own stops and starts touch it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsearch import arrival
from archsearch.engine import Worker
from archsearch.engine.worker import _Stopping
from archsearch.jobs import Workplace
from archsearch.settings import Settings
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import DatasetRow


def test_a_worker_that_is_told_to_stop_leaves_a_reading_at_once_and_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = connect(f"sqlite:///{tmp_path / 'db'}")
    upgrade(database, tmp_path / "lock")
    place = Workplace(session_factory(database), Files(tmp_path), Settings(data_dir=tmp_path, max_attempts=2), "me")
    content = place.files.upload("up_1")
    content.parent.mkdir()
    x_NHWC = np.random.default_rng(0).integers(0, 256, (60_000, 8, 8, 1), dtype=np.uint8)
    with content.open("wb") as file:
        np.savez(file, x_train=x_NHWC, y_train=np.arange(60_000) % 4)
    with place.sessions.begin() as session:
        session.add(DatasetRow(id="ds_1", format="npz", upload="up_1"))

    def row() -> DatasetRow:
        with place.sessions() as session:
            return session.get_one(DatasetRow, "ds_1")

    worker = Worker(database, name="me", lock_dir=tmp_path / "workers", poll_interval_s=0.1, workflows={})
    worker._stopping.set()
    for _ in range(3):  # deployments, say
        with monkeypatch.context() as patched:
            patched.setattr("archsearch.engine.worker._worker", worker)
            with pytest.raises(_Stopping):
                arrival.read_dataset(place, "ds_1")
        assert (row().status, row().attempt) == ("checking", 0)
    arrival.read_dataset(place, "ds_1")
    assert (row().status, row().error) == ("ready", None)
    database.dispose()
