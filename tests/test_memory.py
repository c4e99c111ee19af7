"""What is believed of this machine's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archsearch import memory
from archsearch.memory import available_bytes, gigabytes, machine_bytes


def test_a_machine_has_more_than_is_free_of_it() -> None:
    assert 0 < available_bytes() < machine_bytes()


TAKEN_AGAIN = """
import platform, resource, sys
import numpy as np
from archsearch.memory import keep_freed

if platform.libc_ver()[0] != "glibc":
    sys.exit(print("another C library"))
if sys.argv[1] == "kept":
    keep_freed()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [np.ones(2**21) for _ in range(8)]  # 16 MiB each, all given back together
    del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(sum(faults() for _ in range(5)))
"""


def test_what_is_freed_is_taken_again_without_the_system() -> None:
    command = [sys.executable, "-c", TAKEN_AGAIN]
    returned, kept = (
        subprocess.run([*command, how], capture_output=True, text=True, check=True).stdout for how in ("usual", "kept")
    )
    if "C library" in kept:
        pytest.skip(kept)
    assert int(kept) < int(returned) / 10


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_limit_counts_and_its_files_pages_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    inner = tmp_path / ("memory/pods/one" if version == 1 else "pods/one")
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    # A limit of the group it is in, and none of its own.
    for folder, limit in ((inner, 2**62 if version == 1 else "max"), (inner.parent, 10_000_000)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text("7000000\n")
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} 1000000\n")
    line = "4:cpu,memory:/pods/one" if version == 1 else "0::/pods/one"
    groups = tmp_path / "cgroup"
    groups.write_text(f"1:name=systemd:/\n{line}\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", groups)
    assert (machine_bytes(), available_bytes()) == (10_000_000, 4_000_000)


def test_a_machine_that_tells_nothing_is_believed_to_be_a_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "none")
    assert machine_bytes() == available_bytes() > 2**28


def test_gigabytes_are_told_in_two_figures_until_there_are_ten() -> None:
    assert [gigabytes(each) for each in (2.54e9, 40e6, 12.6e9, 1.2e13)] == ["2.5 GB", "0.04 GB", "13 GB", "12,000 GB"]
