"""What is waited out and what is not."""

from __future__ import annotations

import errno
import os

import pytest

from archsearch.errors import ArchsearchError, DataError, TeacherError
from archsearch.patience import outlast, passing


@pytest.mark.parametrize("kind", [DataError, TeacherError, ArchsearchError])
def test_a_refusal_is_none_whatever_words_it_quotes(kind: type[ArchsearchError]) -> None:
    refusal = kind(f"{os.strerror(errno.ENOSPC)}/1.png is damaged")
    assert passing(refusal) is None
    with pytest.raises(kind):
        outlast(lambda: _raise(refusal), pause=lambda _: pytest.fail("it waits"), told=lambda reason: None)


def test_a_full_disk_is_waited_out() -> None:
    tries, told, waits = iter([OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))] * 2), list[str](), list[float]()

    def action() -> str:
        for error in tries:
            raise error
        return "done"

    assert outlast(action, pause=waits.append, told=told.append) == "done"
    assert (told, waits) == (["the disk is full"] * 2, [0.25, 0.5])


def _raise(error: Exception) -> None:
    raise error
