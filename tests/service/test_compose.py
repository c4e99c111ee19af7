"""The composition of docker-compose.yml, with processes for containers and a folder for the volume."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml

from archsearch import export
from archsearch.client import Client
from archsearch.errors import ServiceError
from archsearch.teachers import describe_folder
from archsearch.zoos.transformers.folder import TOKENIZER_FILES
from tests.service.server import PATIENCE_S, ROOT, clean, free_port, wait

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


@contextmanager
def running(service: dict[str, Any], folder: Path, database: str, port: int, log: Path) -> Iterator[None]:
    """The service's own command in its own environment, with this machine's folder, database and port put in."""
    command = [str(port) if word == "8321" else word for word in shlex.split(service["command"])]
    assert command[0] == "archsearch"
    known = {"ARCHSEARCH_DATA_DIR": str(folder), "ARCHSEARCH_DATABASE_URL": database}
    environment = {name: known.get(name, str(value)) for name, value in service["environment"].items()}
    assert set(known) <= set(environment)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=clean(environment), stdout=out, stderr=out
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(30)


def test_the_services_agree_on_folder_and_database(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "api", "worker"}
    postgres = services["postgres"]["environment"]
    for name in ("api", "worker"):
        service = services[name]
        url = sa.make_url(service["environment"]["ARCHSEARCH_DATABASE_URL"])
        assert (url.host, url.port or 5432) == ("postgres", 5432)
        assert (url.username, url.password, url.database) == tuple(
            postgres[f"POSTGRES_{what}"] for what in ("USER", "PASSWORD", "DB")
        )
        folder = service["environment"]["ARCHSEARCH_DATA_DIR"]
        assert f"data:{folder}" in service["volumes"]
        assert service["depends_on"]["postgres"]["condition"] == "service_healthy"
    # Nobody but this machine may reach an API that asks for no password.
    assert all(str(port).startswith("127.0.0.1:") for port in services["api"]["ports"])
    assert "ports" not in services["postgres"]


def test_api_and_worker_do_a_job_together(
    services: dict[str, Any], postgres_url: str, digits_npz: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    port, logs = free_port(), {name: tmp_path / f"{name}.log" for name in ("api", "worker")}
    with ExitStack() as stack:
        # Both at once, as compose starts them: they meet over the empty database's migrations.
        for name, log in logs.items():
            stack.enter_context(running(services[name], tmp_path / "data", postgres_url, port, log))
        client = stack.enter_context(Client(f"http://localhost:{port}"))

        def ready() -> bool:
            try:
                found = client.call("GET", "/readyz")
            except ServiceError:
                return False
            return bool(found["database"] == "postgresql" and "worker-1" in found["workers"])

        wait(ready, lambda: "\n".join(log.read_text() for log in logs.values()))
        data = {"kind": "dataset", "id": client.add_dataset(digits_npz, "npz")["id"]}
        weights = teacher_folder / "model.safetensors"
        teacher = client.add_teacher(describe_folder(teacher_folder), weights=weights, data=data, wait_s=PATIENCE_S)
        request = {
            "teacher": {"kind": "teacher", "id": teacher["id"]},
            "data": data,
            "budget": {"params_ratio": 0.5},
            "search": {"candidates": 5, "batch_size": 32},
            "distill": {"epochs": 2, "batch_size": 64},
        }
        job_id = client.submit(request)["id"]
        assert list(client.watch(job_id))[-1]["data"]["status"] == "succeeded"
        assert len(client.candidates(job_id)) == 5
        ours = set(export.PUBLIC) - {*TOKENIZER_FILES, export.FRONT, export.PICTURE}
        assert len(client.download(job_id, tmp_path / "student")) == len(ours)

        # What PostgreSQL cannot hold and SQLite can is the client's problem here, and no failure of the server.
        url = f"http://localhost:{port}/v1"
        for answer in (
            httpx.get(f"{url}/jobs/%00", trust_env=False),
            httpx.post(f"{url}/jobs", json={**request, "name": "a\0b"}, trust_env=False),
            httpx.post(f"{url}/uploads", json={"filename": "a\0b"}, trust_env=False),
        ):
            assert answer.status_code in (404, 422), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in "".join(log.read_text() for log in logs.values())
    assert (tmp_path / "data").is_dir()
