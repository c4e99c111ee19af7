"""Pushing to a hub: a stand-in server that speaks what the real client asks for, and keeps what arrives."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest
from click.testing import CliRunner
from huggingface_hub.utils import close_session

from archsearch import export
from archsearch.cli import app
from archsearch.domains.images.task import ImageTask
from archsearch.errors import ExportError, InvalidRequest
from archsearch.spaces import spaces

TOKEN = "hf_forTestsOnly"
# The hub's client hands files to its HTTP library in a way that library no longer likes; that is between the two.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


class Hub:
    """Repositories in memory, over HTTP. `refuse` answers a path's requests with a status instead."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.stored: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refuse: dict[str, int] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=lambda: self.server.serve_forever(0.02), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """What the hub says to a POST."""
        for part, status in self.refuse.items():
            if part in path:
                return status, {"error": "refused"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/lfs/verify":
            wanted = json.loads(body)
            return (200, {}) if len(self.stored[wanted["oid"]]) == wanted["size"] else (422, {})
        repo = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2]).removesuffix(".git")
        if repo not in self.repos:
            return 404, {"error": "Repository not found"}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            # The hub stores what is no text apart.
            modes = {"json": "regular", "md": "regular"}
            return 200, {
                "files": [
                    {"path": f["path"], "uploadMode": modes.get(f["path"].rpartition(".")[2], "lfs"),
                     "shouldIgnore": False}
                    for f in files
                ]
            }  # fmt: skip
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._upload(each) for each in json.loads(body)["objects"]]}
        assert "/commit/main" in path, path
        return self._commit(repo, [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        repo = f"{wanted['organization']}/{wanted['name']}"
        if repo in self.repos:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{repo}"}
        self.repos[repo] = {"visibility": wanted.get("visibility"), "files": {}, "commits": []}
        return 200, {"url": f"{self.url}/{repo}"}

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.stored:
            return wanted
        actions = {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}, "verify": {"href": f"{self.url}/lfs/verify"}}
        return {**wanted, "actions": actions}

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        there = self.repos[repo]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                there["commits"].append(value["summary"])
            elif line["key"] == "file":
                there["files"][value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                there["files"][value["path"]] = self.stored[value["oid"]]
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/1", "commitOid": "1" * 40}

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (inside, self is the handler)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                path = self.path.partition("?")[0]
                hub.tokens.add(self.headers.get("authorization"))
                self.reply(*hub.answer(path, self.body()))

            def do_PUT(self) -> None:
                # The address itself is the permission: the token stays with the hub.
                assert self.headers.get("authorization") is None
                body = self.body()
                oid = self.path.rpartition("/")[2]
                if hashlib.sha256(body).hexdigest() != oid:
                    self.reply(422, {})
                    return
                hub.stored[oid] = body
                self.reply(200, {})

            def do_GET(self) -> None:
                repo = self.path.partition("?")[0].removeprefix("/api/models/")
                if repo in hub.repos:
                    self.reply(200, {"id": repo, "private": hub.repos[repo]["visibility"] == "private"})
                else:
                    self.reply(404, {"error": "Repository not found"}, ("x-error-code", "RepoNotFound"))

            def body(self) -> bytes:
                if "chunked" in self.headers.get("transfer-encoding", ""):
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("content-length", 0)))

            def reply(self, status: int, body: Any, *headers: tuple[str, str]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for header in headers:
                    self.send_header(*header)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    # Git's large files over plain HTTP: the other way ends at servers of its own protocol.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    close_session()
    hub = Hub()
    yield hub
    close_session()
    hub.close()


@pytest.fixture(scope="module")
def folder(gray_task: ImageTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder with everything in it that is public, and some that is not."""
    folder = tmp_path_factory.mktemp("push") / "student"
    space = spaces.get("vit")
    export.save_student(space.build(space.smallest(gray_task), gray_task), gray_task, folder)
    export.refresh(folder)  # a real card
    for name in export.FILES:
        if not (folder / name).exists():
            (folder / name).write_bytes(name.encode() * 100)
    (folder / export.MANIFEST).write_text(json.dumps(MANIFEST))
    (folder / export.ARCHIVE).write_bytes(b"the same files again")
    (folder / ".work").mkdir()
    for secret in (".work/checkpoint.safetensors", "checkpoint.safetensors", ".env", "notes.json"):
        (folder / secret).write_text("not for others")
    return folder


# What a job in somebody's home leaves: folders of that machine, which are nobody else's business.
MANIFEST = {
    "request": {
        "data": {"path": "../someone/mine.npz"}, "note": "a/b", "budget": {"device": "boards/someone.json"},
        "search": {"device": "cpu"}, "old": "local-dir:../someone/net", "log": "/home/someone/log",
    },
    "teacher": "local-dir:/home/someone/teachers/mine",
    "n": [1],
}  # fmt: skip


def test_every_public_file_arrives_whole_and_nothing_else_leaves(hub: Hub, folder: Path) -> None:
    address = export.push(folder, "me/student", private=True, token=TOKEN, endpoint=hub.url)
    assert address == f"{hub.url}/me/student"
    there = hub.repos["me/student"]
    others = [name for name in export.PUBLIC if name != export.MANIFEST]
    assert {name: there["files"].pop(name) for name in others} == {
        name: (folder / name).read_bytes() for name in others
    }
    manifest = json.loads(there["files"].pop(export.MANIFEST))
    assert manifest == {
        "request": {
            "data": {"path": "mine.npz"}, "note": "a/b", "budget": {"device": "someone.json"},
            "search": {"device": "cpu"}, "old": "local-dir:net", "log": "log",
        },
        "teacher": "local-dir:mine",
        "n": [1],
    }  # fmt: skip
    assert there["files"] == {}
    assert there["visibility"] == "private"
    assert len(there["commits"]) == 1
    assert hub.tokens == {f"Bearer {TOKEN}"}
    # Weights went the way of large files, the card inside the commit.
    assert (folder / "model.safetensors").read_bytes() in hub.stored.values()
    assert (folder / "README.md").read_bytes() not in hub.stored.values()


def test_a_repository_that_exists_is_pushed_into_only_when_asked(hub: Hub, folder: Path) -> None:
    export.push(folder, "me/student", private=False, token=TOKEN, endpoint=hub.url)
    assert hub.repos["me/student"]["visibility"] in (None, "public")
    with pytest.raises(ExportError, match=r"me/student exists already.*--update"):
        export.push(folder, "me/student", private=False, token=TOKEN, endpoint=hub.url)
    assert len(hub.repos["me/student"]["commits"]) == 1
    export.push(folder, "me/student", private=False, token=TOKEN, endpoint=hub.url, update=True)
    assert len(hub.repos["me/student"]["commits"]) == 2


def test_what_is_to_be_private_is_not_pushed_into_a_public_repository(hub: Hub, folder: Path) -> None:
    def push(repo: str, *, private: bool) -> str:
        return export.push(folder, repo, private=private, token=TOKEN, endpoint=hub.url, update=True)

    push("me/open", private=False)
    with pytest.raises(ExportError, match=r"me/open is public.*without --private"):
        push("me/open", private=True)
    assert len(hub.repos["me/open"]["commits"]) == 1
    # One that is private, or not there yet, takes it.
    push("me/closed", private=True)
    push("me/closed", private=True)
    assert (hub.repos["me/closed"]["visibility"], len(hub.repos["me/closed"]["commits"])) == ("private", 2)


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/repos/create", 401, "does not know who pushes to me/student: log in with `hf auth login`"),
        ("/api/repos/create", 403, "does not let this token write to me/student"),
        ("/preupload/", 403, "does not let this token write to me/student"),
        ("/api/repos/create", 500, "refused me/student with status 500"),
        ("/info/lfs/objects/batch", 413, "refused me/student with status 413"),
        ("/lfs/verify", 422, "refused me/student with status 422"),
        ("/commit/", 412, "refused me/student with status 412"),
    ],
)
def test_what_a_hub_refuses_is_told_with_what_to_do(hub: Hub, folder: Path, path: str, status: int, told: str) -> None:
    hub.refuse[path] = status
    with pytest.raises(ExportError) as caught:
        export.push(folder, "me/student", private=False, token=TOKEN, endpoint=hub.url)
    assert told in caught.value.detail
    assert hub.url in caught.value.detail
    assert TOKEN not in caught.value.detail


def test_the_shell_pushes_as_whoever_is_logged_in(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def shell(*flags: str) -> str:
        args = ("export", str(folder), "--push", "me/student", *flags)
        return CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False).stdout

    assert shell("--private").strip() == f"{hub.url}/me/student"
    assert json.loads(shell("--update", "--json")) == {
        "report": None,
        "folder": str(folder),
        "pushed": f"{hub.url}/me/student",
    }
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert hub.repos["me/student"]["visibility"] == "private"
    assert len(hub.repos["me/student"]["commits"]) == 2


def test_a_hub_that_does_not_answer_is_told_with_what_to_check(hub: Hub, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ExportError, match=rf"{nowhere} does not answer \(ConnectError.*HF_ENDPOINT"):
        export.push(folder, "me/student", private=False, token=TOKEN, endpoint=nowhere)


def test_offline_is_told_apart_from_refusals(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(ExportError, match="HF_HUB_OFFLINE"):
        export.push(folder, "me/student", private=False, token=TOKEN, endpoint=hub.url)


@pytest.mark.parametrize("repo", ["student", "me/", "a/b/c", "me/stu dent", "../etc", "me/é"])
def test_a_name_no_repository_can_have_is_refused_unasked(hub: Hub, folder: Path, repo: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        export.push(folder, repo, private=False, token=TOKEN, endpoint=hub.url)
    assert caught.value.field == "repo"
    assert hub.tokens == set()


def test_a_folder_without_a_student_is_refused_unasked(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no model\.safetensors and no config\.json"):
        export.push(tmp_path, "me/student", private=False, token=TOKEN, endpoint=hub.url)
    assert hub.tokens == set()
