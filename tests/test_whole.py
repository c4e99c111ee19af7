"""Files that are read back are whole, and a broken one costs its work again instead of the job."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from archsearch import choice, verify
from archsearch.ledger.folder import FolderLedger
from archsearch.request import parse_request
from archsearch.whole import read_kept, write_whole

REWRITE = """
import sys
from pathlib import Path
from archsearch.whole import write_whole
for i in range(10**9):
    write_whole(Path(sys.argv[1]), bytes([i % 256]) * 300_000)
"""
REQUEST = parse_request(
    {"teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}, "budget": {"params": 9000}}
)
# Damaged in every way a crash, an earlier version or another program may leave a file in.
DAMAGED = [
    b"",
    b'{"1-2": {"acc": 50.0, "sec',
    b"\x00" * 64,
    b"[1, 2]",
    b'{"1-2": 3}',
    b'{"1-2": {}}',
    b"\xff\xfe",
    b"7",
]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", REWRITE, str(path)])
        while not path.exists():
            assert writer.poll() is None
        first = path.read_bytes()
        while path.read_bytes() == first:
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        content = path.read_bytes()
        assert len(content) == 300_000
        assert content == content[:1] * 300_000
        path.unlink()


def test_a_full_disk_leaves_the_file_of_before_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(path, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("state.json", "before")]


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = [bytes([65 + i]) * 200_000 for i in range(4)]
    writers = [
        threading.Thread(target=lambda c=content: [write_whole(path, c) for _ in range(20)]) for content in contents
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or path.read_bytes() in contents
    for writer in writers:
        writer.join()
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_verification_with_a_damaged_file_trains_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "verify.json"
    path.write_bytes(content)
    kept = verify._Kept(path)
    assert kept.values == {}
    kept.add("2-4", {"acc": 50.0, "seconds": 1.0})
    assert verify._Kept(path).values == {"2-4": {"acc": 50.0, "seconds": 1.0}}


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_predictors_are_made_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "predictors.json"
    path.write_bytes(content)
    assert choice._kept_predictors(path) == {}


@pytest.mark.parametrize("content", [b"", b'{"winner": {"numb', b"\x00" * 64, b"[1]"])
def test_a_phase_with_a_damaged_result_is_gone_through_again(tmp_path: Path, content: bytes) -> None:
    ledger = FolderLedger(tmp_path, REQUEST, lambda report: None)
    (ledger.folder / "search.json").write_bytes(content)
    assert ledger.once("search", lambda: {"winner": 3}) == {"winner": 3}
    assert ledger.once("search", lambda: {"winner": 4}) == {"winner": 3}


@pytest.mark.parametrize("damage", [b"\x00" * 40 + b"\n", b'{"number": 1}\n', b"\xff\n", b"[]\n"])
def test_a_search_goes_on_from_the_trials_before_a_damaged_line(tmp_path: Path, damage: bytes) -> None:
    from tests.test_verify import trial

    ledger = FolderLedger(tmp_path, REQUEST, lambda report: None)
    for number in range(3):
        ledger.add(trial(number, 1.0), {"phase": "searching"})
    listing = ledger.folder / "trials.jsonl"
    lines = listing.read_bytes().splitlines(keepends=True)
    listing.write_bytes(lines[0] + damage + lines[2])
    assert [found.number for found in ledger.trials()] == [0]
    ledger.add(trial(1, 1.0), {"phase": "searching"})
    assert [found.number for found in ledger.trials()] == [0, 1]


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_kept(tmp_path / "nothing.json") is None
