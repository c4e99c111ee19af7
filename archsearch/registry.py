"""One small registry: a duplicate name raises, an unknown one suggests the nearest."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from archsearch.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to entries of one kind, in alphabetical order.

    The room that owns the registry discovers its own siblings on first use, so adding an entry is adding a file.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._discovered = False

    def add(self, name: str, entry: T) -> T:
        """Register `entry`; raises ValueError when the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """`add` as a decorator."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str, *, field: str | None = None) -> T:
        """The entry called `name`; raises UnknownName with the nearest known name."""
        self._discover()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries, field=field)
        return self._entries[name]

    def names(self) -> list[str]:
        self._discover()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[T]:
        return (self._entries[name] for name in self.names())

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
