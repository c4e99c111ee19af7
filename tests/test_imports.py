"""Imports point one way, and importing costs nothing."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lowest first; a room may import from the floors below its own, and nothing beside it.
FLOORS: tuple[set[str], ...] = (
    {"unit"},
    {
        "errors",
        "failures",
        "kernels",
        "memory",
        "plain",
        "progress",
        "recipes",
        "ridge",
        "settings",
        "teacher_config",
        "whole",
    },
    {"device", "gpus"},
    {"bounded", "connection", "domains.text.spec", "gaussian_process", "locks", "precision", "registry"},
    {"evidence", "request"},
    {"data", "outfolder", "proxies", "result"},
    {"domains", "zoos"},
    {"domains.images", "domains.text"},
    {"spaces", "models", "teachers"},
    {"zoos.onnx", "zoos.timm", "zoos.transformers"},
    {"evaluate", "hardware", "inherit"},
    {"pretrained"},
    {"client", "examine", "export", "search"},
    {"choice", "distill", "store"},
    {"domains.image_classification", "domains.text_classification", "students"},
    {"defaults", "doubt", "followup", "patience", "predictions", "storage", "verify", "workplace"},
    {"checks", "engine", "usable"},
    {"arrival", "ledger", "reconcile", "register", "serve"},
    {"story"},
    {"intake", "local"},
    {"api", "jobs", "teaching"},
    {"worker"},
    {"cli"},
    {"testing"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# A space names networks of ours, which timm builds once they are imported; networks and teachers know each other so.
BESIDE = {("models", "spaces"), ("spaces", "models"), ("teachers", "models")}
SQL, HTTP = {"sqlalchemy", "alembic", "dbos", "psycopg"}, {"fastapi", "starlette", "httpx", "uvicorn"}
MAY_SQL = {
    "store", "engine", "ledger", "reconcile", "jobs", "intake", "register", "storage", "followup", "arrival",
    "workplace", "api",
}  # fmt: skip
MAY_HTTP = {"api": HTTP, "client": {"httpx"}, "connection": {"httpx"}, "serve": {"uvicorn"}}
HEAVY = (
    "onnx",
    "onnxruntime",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "optuna",
    "sklearn",
    "scipy",
    "pandas",
    "pytest",
)


def _files() -> dict[Path, str]:
    """Every source file with the room it belongs to."""
    found = dict.fromkeys((ROOT / "api").rglob("*.py"), "api")
    for path in (ROOT / "archsearch").rglob("*.py"):
        room = _room(path.relative_to(ROOT / "archsearch").with_suffix("").parts)
        if room not in ("__init__", "__main__"):  # the front door names everything and imports it late
            found[path] = room
    return found


def _room(parts: tuple[str, ...]) -> str:
    """The room of a module by its names below `archsearch`; each folder of a domain or a zoo is one, its spec another.

    A name that was imported may follow the module's own.
    """
    dotted = [".".join(parts[:depth]) for depth in (3, 2)]
    return next((room for room in dotted if room in FLOOR), parts[0])


def _imported(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in the file; `from a import b` may mean a.b."""
    here = path.relative_to(ROOT).parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = (
                [*here[: len(here) - node.level + 1], *filter(None, [node.module])] if node.level else [node.module]
            )
            names |= {".".join([*map(str, package), alias.name]) for alias in node.names}
    return names


def test_every_room_has_a_floor() -> None:
    assert set(_files().values()) == FLOOR.keys()


def test_imports_point_downwards() -> None:
    wrong = []
    for path, room in _files().items():
        for name in _imported(path):
            parts = name.split(".")
            known = parts[0] == "archsearch" and len(parts) > 1
            target = "api" if parts[0] == "api" else _room(tuple(parts[1:])) if known else None
            if target in FLOOR and target != room and FLOOR[target] >= FLOOR[room] and (room, target) not in BESIDE:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_no_files_import_each_other_in_a_circle() -> None:
    """A file of the house by what it needs of the house; of two that need each other, neither can be read alone."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in _files()
    }
    needs: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = {found if found in modules else found.rpartition(".")[0] for found in _imported(path)}
        needs[name] = (targets & modules.keys()) - {name}
    try:
        list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"{' ▸ '.join(reversed(error.args[1]))}: take out what both need")


def test_sql_and_http_stay_in_their_rooms() -> None:
    wrong = []
    for path, room in _files().items():
        packages = {name.split(".")[0] for name in _imported(path)}
        outside = (set() if room in MAY_SQL else packages & SQL) | (packages & HTTP - MAY_HTTP.get(room, set()))
        wrong += [f"{path.relative_to(ROOT)} imports {package}" for package in outside]
    assert wrong == []


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True).stdout


def test_importing_brings_no_heavy_library() -> None:
    """One after the other in one interpreter: what the first brings is told at the first."""
    modules = ["archsearch", "archsearch.jobs", "api.main", "archsearch.cli", "archsearch.worker"]
    look = (
        f"{{name: [m for m in {HEAVY!r} if m in sys.modules] for name in {modules!r} if importlib.import_module(name)}}"
    )
    found = _run(f"import importlib, json, sys; print(json.dumps({look}))")
    assert json.loads(found) == {name: [] for name in modules}
