"""A stand-in for the hub that teachers are fetched from, which can fall silent or be out of order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session


class HubOfFiles:
    """Serves files of repositories, by path: `me/good/config.json`.

    Attributes:
        mood: What it does with a request: serve it, keep silent until it is closed, or answer 503 or 404.
        asked: Requests so far.
    """

    def __init__(self, files: Mapping[str, bytes], mood: Literal["serve", "silent", "503"] = "serve") -> None:
        self.files, self.mood, self.asked, self.closing = dict(files), mood, 0, Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=lambda: self.server.serve_forever(0.02), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (inside, self is the handler)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                hub.asked += 1
                if hub.mood == "silent":
                    hub.closing.wait(600)
                    self.close_connection = True
                    return
                owner, repo, _, _, file = [*self.path.strip("/").split("/", 4), "", "", "", ""][:5]
                content = hub.files.get(f"{owner}/{repo}/{file}")
                if hub.mood == "503" or content is None:
                    self.send_response(503 if hub.mood == "503" else 404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "5" * 40)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def environment(hub: HubOfFiles, cache: str) -> dict[str, str]:
    """What makes a process ask the stand-in, with little patience, and keep what it fetches in a folder."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": cache,
        "HF_HUB_ETAG_TIMEOUT": "2",
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }


def ask(hub: HubOfFiles, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process ask the stand-in, with little patience, and keep what it fetches in a folder."""
    for name, value in {
        "ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": True, "HF_HUB_ETAG_TIMEOUT": 1,
    }.items():  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    close_session()
