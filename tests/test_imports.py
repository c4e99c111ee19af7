"""Imports point one way, and importing costs nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lowest first; a room may import its own floor and those below.
FLOORS = (
    {
        "request",
        "settings",
        "registry",
        "errors",
        "plain",
        "precision",
        "recipes",
        "teacher_config",
        "bounded",
        "memory",
        "failures",
        "whole",
        "locks",
        "outfolder",
    },
    {"spaces", "teachers", "models", "data", "kernels"},
    {"evidence"},
    {"proxies", "hardware"},
    {"search", "distill", "evaluate", "export", "store", "engine", "patience"},
    {"choice", "defaults", "doubt", "verify", "ledger", "reconcile", "examine", "usable"},
    {"story"},
    {"register", "storage", "followup"},
    {"jobs", "intake", "arrival", "local", "photos", "client", "connection", "progress", "result"},
    {"api", "cli", "serve", "worker"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SQL, HTTP = {"sqlalchemy", "alembic", "dbos", "psycopg"}, {"fastapi", "starlette", "httpx", "uvicorn"}
MAY_SQL = {
    "store", "engine", "ledger", "reconcile", "jobs", "intake", "register", "storage", "followup", "arrival", "api",
}  # fmt: skip
MAY_HTTP = {"api": HTTP, "client": {"httpx"}, "connection": {"httpx"}, "serve": {"uvicorn"}}
HEAVY = ("torch", "torchvision", "timm", "optuna", "sklearn", "scipy", "pandas")


def _files() -> dict[Path, str]:
    """Every source file with the room it belongs to."""
    found = dict.fromkeys((ROOT / "api").rglob("*.py"), "api")
    for path in (ROOT / "archsearch").rglob("*.py"):
        room = path.relative_to(ROOT / "archsearch").parts[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):  # the front door names everything and imports it late
            found[path] = room
    return found


def _imported(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in the file; `from a import b` may mean a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_has_a_floor() -> None:
    assert set(_files().values()) == FLOOR.keys()


def test_imports_point_downwards() -> None:
    wrong = []
    for path, room in _files().items():
        for name in _imported(path):
            parts = name.split(".")
            target = "api" if parts[0] == "api" else parts[1] if parts[0] == "archsearch" else None
            if target in FLOOR and FLOOR[target] > FLOOR[room]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_sql_and_http_stay_in_their_rooms() -> None:
    wrong = []
    for path, room in _files().items():
        packages = {name.split(".")[0] for name in _imported(path)}
        outside = (set() if room in MAY_SQL else packages & SQL) | (packages & HTTP - MAY_HTTP.get(room, set()))
        wrong += [f"{path.relative_to(ROOT)} imports {package}" for package in outside]
    assert wrong == []


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True).stdout


@pytest.mark.parametrize("module", ["archsearch", "archsearch.jobs", "api.main", "archsearch.cli", "archsearch.worker"])
def test_importing_brings_no_heavy_library(module: str) -> None:
    found = _run(f"import {module}, sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    assert json.loads(found) == []
