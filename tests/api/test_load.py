"""Many clients at once: nobody is left hanging, nothing fails, and who cannot be served is told when to come."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.api.live import Ask, all_at_once, live_server


def test_more_clients_than_threads_and_connections_are_all_answered(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        reading = [Ask("GET", "/v1/jobs?limit=1")] * 60 + [Ask("GET", "/v1/uploads/up_00000000000000000000")] * 60
        found = asyncio.run(all_at_once(server.port, [*reading, Ask("GET", "/healthz")], 20))
        assert found.statuses == {200: 61, 404: 60}, found


def test_writes_stand_in_line_instead_of_failing(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        found = asyncio.run(all_at_once(server.port, [Ask("POST", "/v1/uploads", {})] * 60, 20))
        assert found.statuses == {201: 60}, found
        assert len({body["id"] for body in found.bodies}) == 60
