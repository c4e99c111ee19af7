"""Give it a trained teacher, data and a budget; get back the distilled student that fits.

    import archsearch

    result = archsearch.run({"teacher": …, "data": …, "budget": {"params_ratio": 0.1}}, out="student")
    student = archsearch.load_student("student")

Importing does nothing but name things: torch is imported when a network is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "ArchsearchError",
    "Client",
    "JobRequest",
    "Result",
    "convert_teacher",
    "load_student",
    "predict",
    "read_request",
    "run",
    "train_teacher",
]

_HOMES = {
    "ArchsearchError": "archsearch.errors",
    "Client": "archsearch.client",
    "JobRequest": "archsearch.request",
    "Result": "archsearch.result",
    "convert_teacher": "archsearch.teachers.convert",
    "load_student": "archsearch.export",
    "predict": "archsearch.predictions",
    "read_request": "archsearch.request",
    "run": "archsearch.local",
    "train_teacher": "archsearch.teaching",
}

if TYPE_CHECKING:
    from archsearch.client import Client as Client
    from archsearch.errors import ArchsearchError as ArchsearchError
    from archsearch.export import load_student as load_student
    from archsearch.local import run as run
    from archsearch.predictions import predict as predict
    from archsearch.request import JobRequest as JobRequest
    from archsearch.request import read_request as read_request
    from archsearch.result import Result as Result
    from archsearch.teachers.convert import convert_teacher as convert_teacher
    from archsearch.teaching import train_teacher as train_teacher


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'archsearch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
