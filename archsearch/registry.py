"""One small registry: a duplicate name raises, an unknown one suggests the nearest."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Generic, TypeVar

from archsearch.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to entries of one kind, in alphabetical order.

    The room that owns the registry writes out its files, each of which registers one entry under the file's own name:
    names are known before anything is imported, and a file is imported when its entry is asked for. Whoever is not of
    the house calls `add` when his own module is imported.

    Args:
        package: The room, and `files` the names of its files that register an entry.
    """

    def __init__(self, kind: str, package: str = "", files: Collection[str] = ()) -> None:
        self.kind, self.package, self.files = kind, package, frozenset(files)
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry`; raises ValueError when the name is taken, be it by a file that nobody asked for yet."""
        if self._waits(name) or self._entries.setdefault(name, entry) is not entry:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """`add` as a decorator."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str, *, field: str | None = None) -> T:
        """The entry called `name`; raises UnknownName with the nearest known name."""
        if name in self.files:
            self._import(name)
        if name not in self._entries:
            raise UnknownName(self.kind, name, self.names(), field=field)
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted({*self.files, *self._entries})

    def __iter__(self) -> Iterator[T]:
        return (self.get(name) for name in self.names())

    def _waits(self, name: str) -> bool:
        """Whether this is the name of a file that was not run yet, or failed."""
        return name in self.files and f"{self.package}.{name}" not in sys.modules

    def _import(self, name: str) -> None:
        """Run a file of the room, unless it was.

        Without a lock of its own: a thread that held one while it waits for an import, and another that imports and
        waits for it, would wait for ever. Importing is locked, module by module, by Python itself: of two threads
        that come first one runs the file, and the other waits for its end. The room comes before the file, so that no
        thread holds a file's lock while it waits for the room, whose own imports may need that file.
        """
        try:
            importlib.import_module(self.package)
            importlib.import_module(f"{self.package}.{name}")
        except BaseException:
            # What failed will be run again from its first line, and its name must not be taken then.
            for failed in filter(self._waits, self.files):
                self._entries.pop(failed, None)
            raise
