"""The application without a worker: what it refuses, it refuses by itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from api.deps import Services
from api.main import create_app
from archsearch.jobs import Workplace, workflows
from archsearch.settings import Settings

PART_BYTES = 100_000
Json = dict[str, Any]
# For refusals that name a field nobody could spell out here.
NO_FIELD = "any"


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("api"),
        database_url=None,
        max_part_bytes=PART_BYTES,
        max_upload_bytes=10 * PART_BYTES,
        max_dataset_bytes=2_000_000,
        max_examples=5000,
    )
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


class Refused:
    """Asks for something that must be refused, and looks whether anything came of it all the same."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def __call__(
        self, method: str, path: str, *, status: int, code: str, field: str | None, part: str, **request: Any
    ) -> Json:
        with self.nothing_created():
            answer = self.client.request(method, path, **request)
        problem: Json = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, problem["status"]) == (status, status), problem
        named = field if field == NO_FIELD else problem["field"]
        assert (problem["code"], named, part in problem["detail"]) == (code, field, True), problem
        assert problem["type"] == f"urn:archsearch:problem:{code}"
        assert problem["request_id"] == answer.headers["x-request-id"]
        return problem

    @contextmanager
    def nothing_created(self) -> Iterator[None]:
        before = self._everything()
        yield
        assert self._everything() == before
        assert self.client.get("/healthz").json()["status"] == "ok"

    def _everything(self) -> Json:
        """Rows of every table, the engine's queue included, and the names of all files."""
        services = self.client.app.state.services  # type: ignore[attr-defined]
        names = sa.inspect(services.database).get_table_names()
        with services.sessions() as session:
            rows = {name: session.scalar(sa.text(f"SELECT count(*) FROM {name}")) for name in names}
        folders = sorted(str(path) for room in ("datasets", "jobs") for path in (services.files.root / room).iterdir())
        return {**rows, "files": folders}


@pytest.fixture
def refused(client: TestClient) -> Refused:
    return Refused(client)


Send = Callable[[bytes], str]


@pytest.fixture(scope="session")
def send(client: TestClient) -> Send:
    """Uploads bytes whole; returns the id of the completed upload."""

    def upload(content: bytes) -> str:
        id = str(client.post("/v1/uploads", json={}).json()["id"])
        for number, start in enumerate(range(0, len(content), PART_BYTES), 1):
            part = content[start : start + PART_BYTES]
            assert client.put(f"/v1/uploads/{id}/parts/{number}", content=part).status_code == 204
        assert client.post(f"/v1/uploads/{id}:complete", json={}).status_code == 200
        return id

    return upload


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def small_arrays(count: int = 120, classes: int = 4) -> Json:
    """A data set anything may be wrong with afterwards: 8×8 noise, four classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
        "y_train": np.arange(count) % classes,
        "x_test": rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8),
        "y_test": np.arange(40) % classes,
    }


@pytest.fixture(scope="session")
def dataset(client: TestClient, send: Send) -> str:
    """The id of a small data set: 4 classes, 1 channel."""
    answer = client.post("/v1/datasets", json={"upload": send(npz(**small_arrays())), "format": "npz"})
    assert answer.status_code == 202, answer.text
    found = finish(client, answer.headers["location"])
    assert found["status"] == "ready", found
    return str(found["id"])


def finish(client: TestClient, path: str) -> Json:
    """Do what a worker would with a row that is being checked; returns it as the API tells it afterwards."""
    services: Services = client.app.state.services  # type: ignore[attr-defined]
    place = Workplace(services.sessions, services.files, services.settings, "test")
    id = path.rpartition("/")[2]
    workflows(place)[{"ds": "dataset", "prf": "profile", "tch": "teacher"}[id.partition("_")[0]]](id)
    found: Json = client.get(path).json()
    return found


def request(**changes: Any) -> Json:
    """A job that would be taken."""
    return {
        "teacher": {"kind": "timm", "name": "resnet18"},
        "data": {"kind": "digits"},
        "budget": {"params": 50_000},
        **changes,
    }
