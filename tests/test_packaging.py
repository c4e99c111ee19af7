"""What the package says it needs is what it imports, and what it ships is typed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import archsearch

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Modules whose distribution goes by another name.
DISTRIBUTIONS = {"pil": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "pydantic_core": "pydantic"}


def imported() -> set[str]:
    """Distributions the code imports, wherever in a file; those of the standard library left out."""
    found = set()
    for folder in ("archsearch", "api", "alembic"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(str(node.module).partition(".")[0])
    third = {name.lower() for name in found} - set(sys.stdlib_module_names) - {"archsearch", "api", "__future__"}
    return {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in third}


def declared(*extras: str) -> set[str]:
    named = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    return {re.split(r"[\[<>=~! ]", one)[0].lower().replace("_", "-") for one in named}


def test_everything_imported_is_declared() -> None:
    # Starlette is FastAPI's own foundation.
    assert imported() - declared("postgres", "onnx", "text", "bench", "testing") - {"starlette"} == set()


def test_everything_declared_is_bounded_on_both_sides() -> None:
    loose = [one for one in PROJECT["dependencies"] if ">=" not in one or "<" not in one]
    assert loose == []


def test_the_package_is_typed() -> None:
    assert (Path(archsearch.__file__).parent / "py.typed").is_file()
