from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import reference
from api.reference import page


class Links(HTMLParser):
    """Everything a browser would go to or run, and every id there is."""

    def __init__(self) -> None:
        super().__init__()
        self.to: set[str] = set()
        self.ids: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.to.add(value or "")
            if name == "id":
                self.ids.add(value or "")


def read(text: str) -> Links:
    links = Links()
    links.feed(text)
    return links


def test_the_docs_ask_no_other_host_for_anything_and_run_nothing(client: TestClient) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    links = read(answer.text)
    assert not {"script", "link", "img", "iframe"} & links.tags
    assert {to for to in links.to if not to.startswith("#")} == {"openapi.json"}
    assert client.get("/redoc").status_code == 404


def test_every_operation_and_model_is_there_and_every_link_leads_somewhere(client: TestClient) -> None:
    document, text = client.get("/openapi.json").json(), client.get("/docs").text
    for path, methods in document["paths"].items():
        assert len(re.findall(f"<code>{re.escape(path)}</code></summary>", text)) == len(methods), path
    links = read(text)
    assert set(document["components"]["schemas"]) <= links.ids
    assert {to[1:] for to in links.to if to.startswith("#")} <= links.ids


def test_nothing_in_a_document_becomes_markup() -> None:
    bad = "<script>alert(1)</script>"
    text = page(
        {
            "info": {"title": bad, "version": "1", "summary": bad},
            "paths": {
                "/x": {"get": {"operationId": "x", "description": bad, "responses": {"200": {"description": bad}}}}
            },
            "components": {"schemas": {"A": {"description": bad, "properties": {bad: {"default": bad}}}}},
        }
    )
    assert "script" not in read(text).tags


def test_the_docs_are_written_once_and_not_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bool] = []

    def noted(document: dict[str, Any]) -> str:
        try:
            written.append(bool(asyncio.get_running_loop()))
        except RuntimeError:
            written.append(False)
        return page(document)

    monkeypatch.setattr(reference, "page", noted)
    app = FastAPI(openapi_url=None)
    reference.install(app)
    with TestClient(app) as client:
        assert len({client.get("/docs").text for _ in range(3)}) == 1
        assert client.get("/openapi.json").json() == app.openapi()
    assert written == [False]
