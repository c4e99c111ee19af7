"""One server with data and a teacher, which most of these tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archsearch.data import Dataset
from tests.service.server import Server, write_npz


@dataclass(frozen=True)
class House:
    """A furnished server: `named` are the fields of a request that name its data and its teacher."""

    server: Server
    named: dict[str, Any]
    npz: Path
    teacher: Path

    def request(self, **changes: Any) -> dict[str, Any]:
        """The main job, as small as it can be while everything in it still happens."""
        return {
            **self.named,
            "budget": {"params_ratio": 0.5},
            "search": {"space": "resnet_cifar", "candidates": 10, "batch_size": 32},
            "distill": {"epochs": 3, "batch_size": 64},
            **changes,
        }


@pytest.fixture(scope="session")
def digits_npz(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(digits, tmp_path_factory.mktemp("data") / "digits.npz")


@pytest.fixture(scope="session")
def house(digits_npz: Path, teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    server = Server(tmp_path_factory.mktemp("house") / "data")
    try:
        yield House(server, server.furnish(digits_npz, teacher_folder), digits_npz, teacher_folder)
    finally:
        code = server.stop()
    # Whatever the tests did, nothing went wrong that nobody foresaw.
    assert code == 0
    assert not {"Traceback", "Fatal"} & set(server.log.read_text().split())
