"""Every registered space keeps the contract."""

from __future__ import annotations

import pytest

from archsearch.spaces import of_domain
from archsearch.testing import SpaceContract
from archsearch.testing.space import TASKS

# Of the other sizes there is nothing new to tell but in `make test-all`.
SOON = ("8px-gray", "32px-colour", "224px-colour")


class TestEverySpace(SpaceContract):
    spaces = of_domain("image_classification")
    tasks = {name: TASKS[name] for name in SOON}  # noqa: RUF012


@pytest.mark.slow
class TestEverySpaceOnMoreTasks(TestEverySpace):
    tasks = {name: task for name, task in TASKS.items() if name not in SOON}  # noqa: RUF012
