"""The same tests on the processor, which shows that they are sound, and on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from archsearch.teachers import Teacher

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def _device(name: str, needed: int) -> Any:
    marks = (pytest.mark.gpu, pytest.mark.skipif(needed > GPUS, reason=f"needs {needed} GPU, there are {GPUS}"))
    return pytest.param(name, marks=marks if needed else pytest.mark.slow)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compilers and drivers warn of what a machine could do better; no test of ours is wrong for it."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(params=[_device("cpu", 0), _device("cuda", 1), _device("cuda:1", 2)])
def device(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def exact() -> Iterator[None]:
    """Convolutions and products in full fp32, by algorithms that give the same to the bit every time."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.backends.cudnn.deterministic = False


@pytest.fixture
def taught(teacher: Teacher, device: str) -> Iterator[Teacher]:
    """The digits' teacher, on the device."""
    teacher.model.to(device)
    yield teacher
    teacher.model.to("cpu")
