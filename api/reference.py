"""`/docs`: the OpenAPI document as one page, of this server's own making. It asks no other host for anything."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f3f4f6;border-radius:4px}
code{padding:.1em .3em}pre{padding:.8em;overflow-x:auto}
details{border:1px solid #d0d7de;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;
border-bottom:1px solid #e6e8eb}b{display:inline-block;min-width:4.2rem}
@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#16181d}code,pre{background:#23272f}
details,td,th{border-color:#3a404a}a{color:#8ab4f8}}
"""
# Whatever might one day stand in a description: no script, no other host.
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
}


def install(app: FastAPI) -> None:
    """Serve the page and the document; each is written when first asked for, in a thread, as it takes half a second."""

    @functools.cache
    def written() -> tuple[bytes, bytes]:
        document = app.openapi()
        return page(document).encode(), json.dumps(document, ensure_ascii=False).encode()

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(written()[0], headers=_POLICY)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        return Response(written()[1], media_type="application/json")


def page(document: dict[str, Any]) -> str:
    """The whole page for an OpenAPI document."""
    info, schemas = document["info"], document.get("components", {}).get("schemas", {})
    title = escape(f"{info['title']} {info['version']}")
    body = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    models = "".join(_schema(name, schemas[name]) for name in sorted(schemas))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1><p>{escape(info.get('summary', ''))}</p>"
        f"<p>The same for programs: <a href=openapi.json>openapi.json</a>.</p><h2>Operations</h2>{body}"
        f"<h2>Bodies and answers</h2>{models}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    said = operation.get("description", operation.get("summary", ""))
    rows = [(p["name"], p["in"], p["schema"], p.get("description", "")) for p in operation.get("parameters", ())]
    sent = operation.get("requestBody", {}).get("content", {})
    rows += [("body", kind, content.get("schema", {}), "") for kind, content in sent.items()]
    asks = _table(
        (_code(name), escape(where), _type(schema), escape(about or schema.get("description", "")))
        for name, where, schema, about in rows
    )
    answers = _table(
        (f"<code>{status}</code>", escape(told.get("description", "")), ", ".join(_answered(told)))
        for status, told in operation["responses"].items()
    )
    summary = f"<b>{method.upper()}</b> {_code(path)}"
    return _details(operation["operationId"], summary, f"<p>{escape(said)}</p>{asks}{answers}")


def _answered(told: dict[str, Any]) -> Iterator[str]:
    for kind, content in told.get("content", {}).items():
        yield f"{escape(kind)} {_type(content.get('schema', {}))}"


def _schema(name: str, schema: dict[str, Any]) -> str:
    needed = schema.get("required", ())
    fields = _table(
        (
            f"<code>{escape(field)}</code>",
            _type(value),
            "required" if field in needed else f"default <code>{escape(json.dumps(value.get('default')))}</code>",
            escape(value.get("description", "")),
        )
        for field, value in schema.get("properties", {}).items()
    )
    return _details(name, escape(name), f"<p>{escape(schema.get('description', ''))}</p>{fields}")


def _details(id: str, summary: str, within: str) -> str:
    return f"<details id='{escape(id)}'><summary>{summary}</summary>{within}</details>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in a word or two, with a link to what it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"<code>{escape(json.dumps(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    bounds = (f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema)
    inner = f" of {_type(schema['items'])}" if "items" in schema else ""
    return escape(" ".join([str(schema.get("type", "any")), *bounds])) + inner


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "maxLength": "length ≤"}


def _table(rows: Any) -> str:
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{cells}</table>" if cells else ""
