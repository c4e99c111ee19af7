"""A file over HTTP as the standards have it: ranges, versions, HEAD, and what is no longer there."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.ranges import read_range
from archsearch.store.models import Artifact, Job
from tests.api.conftest import Refused

CONTENT = bytes(range(200))


@dataclass(frozen=True)
class File:
    id: str
    path: Path
    etag: str

    @property
    def url(self) -> str:
        return f"/v1/artifacts/{self.id}/content"


@pytest.fixture
def file(client: TestClient) -> Iterator[File]:
    """An artifact as a worker leaves it."""
    services = client.app.state.services  # type: ignore[attr-defined]
    job, digest = f"job_{secrets.token_hex(10)}", hashlib.sha256(CONTENT).hexdigest()
    path = services.files.job(job) / "artifacts" / "student.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    artifact = f"art_{secrets.token_hex(10)}"
    with services.sessions.begin() as session:
        session.add(Job(id=job, kind="search", request={}, status="succeeded"))
        session.flush()
        session.add(
            Artifact(id=artifact, job_id=job, name="student.bin", media_type="application/x-student",
                     size_bytes=len(CONTENT), sha256=digest, path=services.files.relative(path))
        )  # fmt: skip
    yield File(artifact, path, f'"{digest}"')
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-9", CONTENT[:10]),
        ("bytes=190-", CONTENT[190:]),
        ("bytes=-5", CONTENT[-5:]),
        ("bytes=-500", CONTENT),
        ("bytes=190-500", CONTENT[190:]),
        ("bytes=0-9,5000-", CONTENT[:10]),
        ("Bytes= 0-0 ", CONTENT[:1]),
        (f"bytes=199-{10**30}", CONTENT[199:]),
    ],
)
def test_a_range_that_exists_is_sent(client: TestClient, file: File, header: str, part: bytes) -> None:
    answer = client.get(file.url, headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, part)
    first = CONTENT.index(part)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/200"


@pytest.mark.parametrize(
    "header",
    ["bytes", "bytes=", "bytes=-", "bytes=x-y", "bytes=9-0", "bytes=0-1,x", "items=0-1", "bytes=0-1-2", "bytes=+1-2",
     "bytes=1.5-2", "bytes=0 - 4", "bytes=" + ",".join(["0-0"] * 99), "bytes=,", f"bytes={'9' * 5000}-"],
)  # fmt: skip
def test_what_is_no_range_is_ignored(client: TestClient, file: File, header: str) -> None:
    answer = client.get(file.url, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("header", ["bytes=200-", "bytes=500-600", "bytes=-0", "bytes=200-,300-"])
def test_a_range_beyond_the_end_says_where_that_is(client: TestClient, file: File, header: str) -> None:
    answer = client.get(file.url, headers={"Range": header})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */200")
    assert (answer.headers["content-type"], answer.json()["code"]) == (
        "application/problem+json",
        "range_not_satisfiable",
    )


def test_several_ranges_come_in_parts(client: TestClient, file: File) -> None:
    answer = client.get(file.url, headers={"Range": "bytes=0-1, 10-11"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert all(f"Content-Range: bytes {part}/200".encode() in answer.content for part in ("0-1", "10-11"))


def test_a_range_of_another_version_is_not_wanted(client: TestClient, file: File) -> None:
    for version, status in ((file.etag, 206), ('"old"', 200), (f"W/{file.etag}", 200)):
        answer = client.get(file.url, headers={"Range": "bytes=0-9", "If-Range": version})
        assert answer.status_code == status, version


def test_what_can_be_got_can_be_asked_about(client: TestClient, file: File) -> None:
    for url in (file.url, f"/v1/artifacts/{file.id}", "/v1/jobs", "/healthz", "/v1/spaces", "/openapi.json", "/docs"):
        got, head = client.get(url), client.head(url)
        assert (head.status_code, head.content) == (200, b""), url
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == got.headers.get(name), (url, name)
    assert client.head(file.url, headers={"Range": "bytes=0-9"}).headers["content-length"] == "10"
    assert client.head("/v1/jobs/job_1").status_code == 404


def test_an_artifact_whose_file_is_gone_says_so(client: TestClient, file: File, refused: Refused) -> None:
    file.path.write_bytes(CONTENT[:50])
    expected = {"status": 410, "code": "gone", "field": None}
    refused("GET", file.url, **expected, part="student.bin has 50 of 200 bytes")
    file.path.unlink()
    problem = refused("GET", file.url, **expected, part="student.bin is gone")
    assert str(file.path.parent) not in str(problem)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, HEAD, OPTIONS, POST"),
        ("/v1/jobs/job_1", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/jobs/job_1:cancel", "OPTIONS, POST"),
        ("/v1/uploads/up_1/parts/1", "OPTIONS, PUT"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_path_says_what_it_takes(client: TestClient, path: str, methods: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - set(methods.split(", ")):
        refused = client.request(method, path)
        assert (refused.status_code, refused.headers.get("allow")) == (405, methods), method
    asked = client.options(path)
    assert (asked.status_code, asked.headers["allow"]) == (204, methods)


def test_a_path_nobody_made_takes_nothing(client: TestClient) -> None:
    assert client.options("/v1/nowhere").status_code == 404


def test_ranges_are_read_without_a_file() -> None:
    assert read_range("bytes=0-", 0) == []
    assert read_range("bytes=-1", 0) == []
    assert read_range("bytes=5-9,0-0", 10) == [(5, 9), (0, 0)]
