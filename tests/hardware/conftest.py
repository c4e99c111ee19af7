"""What the tests of devices share: a small task, and a space cheap enough to be timed in tests."""

from __future__ import annotations

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.spaces import Space, spaces


@pytest.fixture(scope="session")
def task() -> ImageTask:
    return ImageTask(10, 3, 16, 16, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="session")
def space() -> Space:
    return spaces.get("resnet_cifar")
