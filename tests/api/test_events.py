"""Streams of events: many at a time, and over a database that goes away."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from api import feeds
from api.main import create_app
from api.routes import events
from archsearch.settings import Settings
from archsearch.store import queries
from tests.api.conftest import request
from tests.postgres_server import postgres_server
from tests.service.server import wait


class Watcher:
    """What a stream knows of the request it answers."""

    app = SimpleNamespace(state=SimpleNamespace())
    looked = 0

    async def is_disconnected(self) -> bool:
        self.looked += 1
        return False


@pytest.mark.parametrize(("jobs", "each"), [(1, 60), (30, 2)])
def test_many_streams_ask_no_more_than_a_few(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, jobs: int, each: int
) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    ids = [client.post("/v1/jobs", json=request()).json()["id"] for _ in range(jobs)]
    seconds, told, asked = 2.0, list[str](), list[str]()
    monkeypatch.setattr(events, "_LOOKS_A_SECOND", 20)

    async def watch(id: str) -> None:
        async for event in events.stream(Watcher(), services, id, 0):  # type: ignore[arg-type]
            told.append(event)

    async def watch_all() -> None:
        watching = [asyncio.create_task(watch(id)) for id in ids for _ in range(each)]
        await asyncio.sleep(seconds)
        assert services.feeds.watchers == jobs * each
        for one in watching:
            one.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    sa.event.listen(services.database, "before_cursor_execute", note)
    try:
        asyncio.run(watch_all())
    finally:
        sa.event.remove(services.database, "before_cursor_execute", note)
    looks = sum("FROM events" in statement for statement in asked)
    # Each job once, and then as many as all of them may.
    assert jobs < looks <= jobs + 20 * (seconds + 1)
    assert len(told) == jobs * each
    assert len(services.feeds) == 0


def test_whoever_comes_late_is_told_all(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    id = client.post("/v1/jobs", json=request()).json()["id"]
    monkeypatch.setattr(feeds, "KEPT", 4)

    def happens(number: int) -> None:
        with services.transaction() as session:
            queries.add_event(session, id, "progress", {"number": number})

    async def watch(after: int, told: list[int], seen: int) -> None:
        async for event in events.stream(Watcher(), services, id, after):  # type: ignore[arg-type]
            told.append(int(event.split()[1]))
            if told[-1] == seen:
                return

    async def watch_both() -> tuple[list[int], list[int]]:
        early, late = list[int](), list[int]()
        watching = asyncio.create_task(watch(1, early, 31))
        for number in range(20):
            await asyncio.to_thread(happens, number)
        joining = asyncio.create_task(watch(0, late, 31))
        for number in range(20, 30):
            await asyncio.to_thread(happens, number)
        await asyncio.wait_for(asyncio.gather(watching, joining), 30)
        return early, late

    early, late = asyncio.run(watch_both())
    assert early == list(range(2, 32))
    assert late == list(range(1, 32))


def test_a_stream_outlives_a_restart_of_the_database(tmp_path: Path) -> None:
    with postgres_server() as database:
        settings = Settings(data_dir=tmp_path, database_url=database.url)
        with TestClient(create_app(settings), base_url="http://localhost") as client:
            path = f"/v1/jobs/{client.post('/v1/jobs', json=request()).json()['id']}"
            services = client.app.state.services  # type: ignore[attr-defined]
            watcher, told = Watcher(), list[str]()

            async def watch() -> None:
                async for event in events.stream(watcher, services, path.rpartition("/")[2], 0):  # type: ignore[arg-type]
                    told.append(event.splitlines()[1])

            def looks_again() -> None:
                seen = watcher.looked
                wait(lambda: watcher.looked > seen + 1 or not watching.is_alive(), lambda: f"told {told}")

            watching = threading.Thread(target=asyncio.run, args=(watch(),))
            watching.start()
            looks_again()
            database.stop("immediate")
            looks_again()
            database.start()
            client.post(f"{path}:cancel")
            watching.join(30)
    assert told == ["event: queued", "event: done"]
