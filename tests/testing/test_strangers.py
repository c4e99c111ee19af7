"""Whoever writes a plug-in outside the house runs the suites on it: CONTRIBUTING's examples pass, broken ones fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).with_name("broken.py")
EXAMPLE = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)
RESULT = re.compile(r"^(PASSED|FAILED|ERROR) (test_\w+)\.py::(\w+)::(\w+)", re.MULTILINE)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """By file, the tests that fail in a folder of a stranger's, run by a pytest of its own."""
    folder = tmp_path_factory.mktemp("stranger")
    for name, text in EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copy(BROKEN, folder / "test_broken.py")
    asked = ["-q", "-rpfE", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *asked],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        capture_output=True,
        check=False,
    )
    found: dict[str, set[str]] = {}
    for result, file, suite, test in RESULT.findall(run.stdout):
        found.setdefault(file if file != "test_broken" else suite, set()).update({test} if result != "PASSED" else ())
    assert found, run.stdout + run.stderr
    return found


@pytest.mark.slow
@pytest.mark.parametrize("example", ["test_slim_vit", "test_participation", "test_angle"])
def test_an_example_of_contributing_keeps_its_contract(failed: dict[str, set[str]], example: str) -> None:
    assert failed[example] == set()


@pytest.mark.slow
def test_a_wrong_count_of_parameters_is_told(failed: dict[str, set[str]]) -> None:
    assert failed["TestMiscounted"] == {
        "test_the_closed_form_is_what_torch_counts_runs_and_stores",
        "test_odd_sides_and_rectangles_are_counted_too",
        "test_a_small_member_has_the_parameters_counted_and_answers",
    }


@pytest.mark.slow
def test_a_proxy_that_reads_what_it_does_not_declare_is_told(failed: dict[str, set[str]]) -> None:
    assert failed["TestUndeclared"] == {"test_what_it_says_it_reads_is_all_it_looks_at"}


@pytest.mark.slow
def test_a_proxy_that_looks_at_its_number_is_told(failed: dict[str, set[str]]) -> None:
    assert failed["TestWaiting"] == {"test_no_number_is_waited_for"}


@pytest.mark.slow
def test_a_loss_whose_gradient_reaches_the_teacher_is_told(failed: dict[str, set[str]]) -> None:
    assert failed["TestLeaking"] == {"test_its_gradient_reaches_the_student_and_the_adapter_alone"}


def test_without_pytest_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['pytest'] = None; import archsearch.testing"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert run.stderr.splitlines()[-1] == (
        "ImportError: archsearch.testing needs pytest 9 or later: pip install 'archsearch[testing]'"
    )
