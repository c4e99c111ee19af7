"""What a worker works with."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from archsearch.settings import Settings
from archsearch.store.files import Files


@dataclass(frozen=True)
class Workplace:
    """A worker's database and files.

    Attributes:
        worker: Its name.
    """

    sessions: sessionmaker[Session]
    files: Files
    settings: Settings
    worker: str
