"""Every operation of the OpenAPI document, asked whatever the document allows and much that it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import npz, request, small_arrays
from tests.api.live import Live, live_server

pytest.importorskip("schemathesis")
SECONDS = 40
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    names = {}
    if request.param == "postgresql":
        names["ARCHSEARCH_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with live_server(tmp_path / "data", **names) as server:
        furnish(server)
        yield server


def furnish(server: Live) -> None:
    """Something of every kind is there to be found."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        upload = client.post("/v1/uploads", json={}).json()["id"]
        client.put(f"/v1/uploads/{upload}/parts/1", content=npz(**small_arrays()))
        client.post(f"/v1/uploads/{upload}:complete", json={}).raise_for_status()
        client.post("/v1/datasets", json={"upload": upload, "format": "npz"}).raise_for_status()
        client.post("/v1/teachers", json={"source": {"kind": "timm", "name": "resnet18"}}).raise_for_status()
        client.post("/v1/jobs", json=request()).raise_for_status()


@pytest.mark.slow
def test_no_request_fails_and_every_answer_is_documented(server: Live) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--seed", "1"),
        *("--max-time", str(SECONDS), "--request-timeout", "20", "--continue-on-failure", "--no-color"),
        # Without a worker it says 503, as it should.
        *("--exclude-path", "/readyz"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "Traceback" not in server.log.read_text()
