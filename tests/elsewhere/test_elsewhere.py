"""Everything is computed where it was asked to be, on a device that is not there: in processes of their own, since
torch lets no device come after its first backward pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.elsewhere.device import missing

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("alone_*.py")))
def test_on_a_device_that_is_not_there(file: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--show-capture=no", str(HERE / file)]
    found = subprocess.run(command, cwd=HERE.parents[1], text=True, capture_output=True)
    assert found.returncode == 0, found.stdout[-6000:]
