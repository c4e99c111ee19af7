"""One small registry: a duplicate name raises, an unknown one suggests the nearest."""

from __future__ import annotations

import importlib
import pkgutil
import threading
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
        self._thread = threading.local()  # `added`: names from the file this thread is importing

    def add(self, name: str, entry: T) -> T:
        """Register `entry`; raises ValueError when the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        if (added := getattr(self._thread, "added", None)) is not None:
            added.append(name)
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
        """Import every file of the room.

        Without a lock of its own: a thread that held one while it waits for an import, and another that imports and
        waits for it, would wait for ever. Importing is locked, module by module, by Python itself: of two threads
        that come first, both go through all files, and each file is run once. A file that asks the registry while it
        is imported finds what is there already.
        """
        if self._discovered or getattr(self._thread, "added", None) is not None:
            return
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                self._import(f"{self._package}.{module.name}")
        finally:
            self._thread.added = None
        self._discovered = True

    def _import(self, name: str) -> None:
        added: list[str] = []
        self._thread.added = added
        try:
            importlib.import_module(name)
        except BaseException:
            # The file will be run again from its first line, and its names must not be taken then.
            for entry in added:
                self._entries.pop(entry, None)
            raise
