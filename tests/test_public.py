"""The package's public names are a promise."""

from __future__ import annotations

import importlib

import pytest

import archsearch


def test_public_names_are_these_and_sorted() -> None:
    promised = [
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
    assert archsearch.__all__ == sorted(archsearch.__all__) == promised
    assert dir(archsearch) == promised


def test_every_public_name_resolves_to_its_home() -> None:
    for name in archsearch.__all__:
        home = importlib.import_module(archsearch._HOMES[name])
        assert getattr(archsearch, name) is getattr(home, name)
    assert archsearch._HOMES.keys() == set(archsearch.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'runs'"):
        _ = archsearch.runs
