"""The transformers library, which is an extra: imported when it is needed, and quiet while it is used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from archsearch.errors import InvalidRequest


def library(name: str = "transformers") -> Any:
    """The module; raises InvalidRequest saying how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InvalidRequest(f"{name} is not installed: pip install 'archsearch[text]'", field="teacher") from None


@contextmanager
def quiet() -> Iterator[Any]:
    """The library without its progress bars and its warnings, which become errors of ours; as it was afterwards."""
    transformers = library()
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
