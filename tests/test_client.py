"""The client against a real server, through a proxy that cuts, refuses and answers pages as proxies do."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from safetensors.numpy import save_file
from sqlalchemy import update

from api.main import create_app, open_services
from archsearch import client as client_module
from archsearch.cli import inputs
from archsearch.client import Client
from archsearch.errors import ServiceError
from archsearch.request import RegisteredTeacher, parse_request
from archsearch.settings import Settings
from archsearch.store import queries
from archsearch.store.database import connect, session_factory
from archsearch.store.models import Artifact, DatasetRow, Event, Job, TeacherRow
from tests.api import test_text_teachers as text_teachers

JOB = "job_" + "0" * 20
CONTENT = bytes(range(256)) * 4000
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
OURS = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: 22\r\n"
    b'Connection: close\r\n\r\n{"code":"unavailable"}'
)
PAGE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<h1>Oops</h1>"


class Proxy:
    """Passes connections on to a port and counts them; `rough` says what happens to the next ones instead."""

    def __init__(self, port: int) -> None:
        self.target, self.connections = port, 0
        self.rough: list[int | bytes] = []  # cut after so many bytes of the answer, or say this instead
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            what = self.rough.pop(0) if self.rough else None
            threading.Thread(target=self._serve, args=(near, what), daemon=True).start()

    def _serve(self, near: socket.socket, what: int | bytes | None) -> None:
        with near:
            if isinstance(what, bytes):
                near.recv(65536)
                near.sendall(what)
                return
            with socket.create_connection(("127.0.0.1", self.target)) as far:
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()
                left = float("inf") if what is None else what
                while left > 0 and (piece := far.recv(min(65536, int(min(left, 65536))))):
                    left -= len(piece)
                    try:
                        near.sendall(piece)
                    except OSError:
                        break
                for end in (near, far):  # a mere close would wait for the thread that still reads
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _pass_on(near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while piece := near.recv(65536):
                far.sendall(piece)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("house"), database_url=None)


@pytest.fixture(scope="module")
def port(settings: Settings) -> Iterator[int]:
    """A server that holds one finished job with two files, and has no worker."""
    services = open_services(settings)
    with services.sessions.begin() as session:
        session.add(Job(id=JOB, kind="search", request={}, status="succeeded", progress=1.0, result={"a": 1}))
        session.flush()
        for seq, type in enumerate(("started", "phase", "progress", "done"), 1):
            session.add(Event(job_id=JOB, seq=seq, type=type, data={"status": "succeeded"}))
        for name, content in (("model.safetensors", CONTENT), ("config.json", b"{}")):
            path = services.files.job(JOB) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            sha256, relative = hashlib.sha256(content).hexdigest(), services.files.relative(path)
            session.add(
                Artifact(id=queries.new_id("art"), job_id=JOB, name=name, media_type="application/octet-stream",
                         size_bytes=len(content), sha256=sha256, path=relative)
            )  # fmt: skip
    services.engine.close()
    services.database.dispose()
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    yield proxy
    proxy.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    with Client(proxy.url, patience_s=20) as client:
        yield client


def reconnect(client: Client) -> None:
    """Let go of the connections that are kept: what the proxy does next, it does to new ones, one a request."""
    client._server._http.close()
    client._server._http = httpx.Client(base_url=client.url, trust_env=False, headers={"Connection": "close"})


def types(events: Any) -> list[str]:
    return [event["type"] for event in events]


def test_watching_a_finished_job_from_its_end_asks_a_few_times_and_ends(client: Client, proxy: Proxy) -> None:
    asked: list[str] = []
    client._server._http.event_hooks["request"].append(lambda request: asked.append(str(request.url)))
    assert types(client.watch(JOB, after=4)) == []
    assert len(asked) <= 3


def test_a_stream_that_is_cut_goes_on_with_the_next_event(client: Client, proxy: Proxy) -> None:
    client.job(JOB)  # the server is known to be there
    proxy.rough = [460, PAGE]
    reconnect(client)
    assert types(client.watch(JOB)) == ["started", "phase", "progress", "done"]
    assert proxy.rough == []


def test_a_page_of_a_proxy_and_a_cut_answer_are_waited_out_once_the_server_is_known(proxy: Proxy) -> None:
    with Client(proxy.url) as client:
        client._server._known = True
        proxy.rough = [PAGE, 30]
        assert client.job(JOB)["status"] == "succeeded"
        assert proxy.connections >= 3


def test_a_server_nobody_ever_heard_of_is_said_to_be_missing_at_once(proxy: Proxy) -> None:
    proxy.rough = [PAGE]
    with Client(proxy.url) as client, pytest.raises(ServiceError, match="502"):
        client.job(JOB)


@pytest.mark.parametrize("busy", [BUSY, OURS], ids=["retry-after", "problem"])
def test_a_server_too_busy_for_the_first_thing_it_is_asked_is_waited_for(proxy: Proxy, busy: bytes) -> None:
    proxy.rough = [busy, busy]
    with Client(proxy.url) as client:
        assert client.job(JOB)["status"] == "succeeded"
    assert proxy.rough == []


def write_teacher(folder: Path) -> Path:
    """As timm saves one; nobody looks into the weights."""
    folder.mkdir()
    save_file({"fc.weight": np.zeros((3, 4), np.float32)}, folder / "model.safetensors")
    cfg = {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_a_job_needs_is_waited_for_as_long_as_its_check_takes(
    client: Client, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes an hour forward between two looks: no check of this server ends before that."""
    now, naps, said = 0.0, 0, list[str]()
    rows = session_factory(connect(settings.url))

    def nap(seconds: float) -> None:
        nonlocal now, naps
        now, naps = now + 3600, naps + 1
        if naps % 3 == 0:
            task = {"classes": 3, "in_chans": 3, "height": 8, "width": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
            splits = {"train": 1000, "selection": 10, "test": 10}
            with rows.begin() as session:
                session.execute(update(DatasetRow).values(status="ready", task=task, splits=splits))
                session.execute(update(TeacherRow).values(status="ready", facts={"selection_acc": 75.0}))

    for module in (client_module, inputs):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now, sleep=nap))
    np.savez(tmp_path / "data.npz", x_train=np.zeros((9, 8, 8, 3), np.uint8), y_train=np.arange(9) % 3)
    request = parse_request(
        {
            "teacher": {
                "kind": "local", "path": str(write_teacher(tmp_path / "teacher")), "input_size": [16, 24],
                "classes": {"a": 0, "b": 2, "c": 1},
            },
            "data": {"kind": "npz", "path": str(tmp_path / "data.npz")},
            "budget": {"params": 1000},
        }
    )  # fmt: skip
    sent = inputs.send_local_parts(client, request, said.append)
    assert naps == 6
    assert sum("is still being checked" in line for line in said) == 4
    assert said[-1].endswith("75.00 % on the selection split")
    assert isinstance(sent.teacher, RegisteredTeacher)
    assert (sent.teacher.input_size, sent.teacher.classes) == ((16, 24), {"a": 0, "b": 2, "c": 1})
    (row,) = client.call("GET", "/v1/teachers")["data"]
    assert (row["source"]["input_size"], row["source"]["classes"]) == ([16, 24], {"a": 0, "b": 2, "c": 1})


def test_a_folder_of_texts_and_a_folder_of_an_encoder_go_as_zips(client: Client, tmp_path: Path) -> None:
    """The server has no worker: what it tells it tells by itself."""
    for name in ("train", "test"):
        (tmp_path / "words").mkdir(exist_ok=True)
        (tmp_path / "words" / f"{name}.csv").write_text("text,label\n" + "a,b\n" * 9)
    row = client.add_dataset(tmp_path / "words", "text", max_length=32, wait_s=0)
    assert (row["status"], row["format"], row["options"]["max_length"]) == ("checking", "text", 32)
    again = client.add_dataset(tmp_path / "words", "text", max_length=32, wait_s=0)
    assert again["id"] == row["id"], "the same folder is the same content"
    with pytest.raises(ServiceError, match="no option of text") as caught:
        client.add_dataset(tmp_path / "words", "text", image_size=32, wait_s=0)
    assert caught.value.field == "image_size"
    for name, content in {**text_teachers.FILES, "pytorch_model.bin": b"never sent" * 10**6}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps(text_teachers.CONFIG))
    row = client.add_teacher({"classes": "as_is"}, weights=tmp_path, wait_s=0)
    assert (row["source"]["kind"], row["source"]["classes"]) == ("folder", "as_is")
    assert (row["facts"]["domain"], row["facts"]["num_classes"]) == ("text_classification", 2)


def test_a_deletion_whose_answer_was_lost_is_a_deletion(client: Client, proxy: Proxy) -> None:
    upload = client.call("POST", "/v1/uploads", json={})["id"]
    proxy.rough = [5]
    reconnect(client)
    client.delete(upload)
    assert proxy.rough == []
    with pytest.raises(ServiceError, match="no upload"):
        client.delete(upload)


def test_patience_ends(port: int) -> None:
    proxy = Proxy(port)
    with Client(proxy.url, patience_s=0.3) as client:
        client.job(JOB)
        proxy.close()
        proxy.rough = [PAGE] * 50
        reconnect(client)
        with pytest.raises(ServiceError, match=r"502|no longer answers"):
            client.job(JOB)


def test_a_download_that_is_cut_goes_on_where_it_was(client: Client, proxy: Proxy, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    client.job(JOB)
    half = len(CONTENT) // 2
    reconnect(client)
    proxy.rough = [10_000, half, PAGE]  # the list of artifacts and config.json, then a half of the weights
    paths = client.download(JOB, tmp_path, listener=lambda done, total: seen.append((done, total)))
    assert {path.name: path.read_bytes() for path in paths} == {"model.safetensors": CONTENT, "config.json": b"{}"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert seen[-1] == (len(CONTENT) + 2, len(CONTENT) + 2)


def test_a_half_file_of_an_earlier_call_is_completed_and_a_whole_one_is_not_fetched_again(
    client: Client, tmp_path: Path
) -> None:
    asked: list[Any] = []
    client._server._http.event_hooks["request"].append(asked.append)
    (tmp_path / "config.json").write_bytes(b"{}")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / f".model.safetensors.{sha256[:16]}.partial").write_bytes(CONTENT[:1000])
    client.download(JOB, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    fetched = [request.headers.get("range") for request in asked if request.url.path.endswith("/content")]
    assert fetched == ["bytes=1000-"]


def test_a_half_file_with_other_bytes_is_found_out(client: Client, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / f".model.safetensors.{sha256[:16]}.partial").write_bytes(b"x" * 1000)
    with pytest.raises(ServiceError, match="arrived damaged"):
        client.download(JOB, tmp_path)
    client.download(JOB, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["nonsense", "http://a:b", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_a_sentence(url: str) -> None:
    with pytest.raises(ServiceError, match="no address of a server"), Client(url) as client:
        client.job(JOB)
