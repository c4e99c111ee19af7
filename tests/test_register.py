"""What several requests at once do with the rows that jobs name, on a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from archsearch.engine import EngineClient
from archsearch.register import recheck_teacher
from archsearch.store import queries
from archsearch.store.database import connect, session_factory
from archsearch.store.migrate import upgrade
from archsearch.store.models import TeacherRow


def test_requests_that_name_one_refused_teacher_wait_for_each_other_and_check_it_once(
    postgres_url: str, tmp_path: Path
) -> None:
    engine = connect(postgres_url)
    upgrade(engine, tmp_path / "lock")
    client = EngineClient(engine)
    client.prepare()
    sessions = session_factory(engine)
    with sessions.begin() as session:
        session.add(TeacherRow(id="tch_1", source={}, status="refused", error={"retryable": True}))
    together = Barrier(4)

    def submit() -> str:
        """As `POST /v1/jobs` does: rely on the row, then have it checked again."""
        with sessions.begin() as session:
            queries.require(session, TeacherRow, "tch_1", lock="shared")
            together.wait(10)
            return recheck_teacher(session, client, "tch_1").status

    with ThreadPoolExecutor(4) as pool:
        told = [each.result(30) for each in [pool.submit(submit) for _ in range(4)]]
    with sessions() as session:
        assert (told, client.owners(session, "tch_1")) == (["checking"] * 4, {"tch_1:1": None})
    client.close()
    engine.dispose()
