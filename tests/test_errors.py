from __future__ import annotations

import pytest

from archsearch.errors import ArchsearchError, public, public_problem

SQL = """(sqlite3.OperationalError) database is locked
[SQL: UPDATE jobs SET status=? WHERE jobs.id = ?]
[parameters: ('failed', 'job_1')]
(Background on this error at: https://sqlalche.me/e/21/e3q8)"""
TORCH = """[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: out of memory.
Exception raised from c10::alloc_cpu at ../c10/core/impl/alloc_cpu.cpp:117 (most recent call first):
frame #0: c10::Error::Error(std::string) + 0x96 (0x7f1c2a3b4c5d in /opt/x/libc10.so)"""


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        (SQL, "database is locked"),
        (TORCH, "DefaultCPUAllocator: out of memory."),
        ("No such file: '/srv/data/jobs/job_1/student.pt'", "No such file: 'student.pt'"),
        ("cannot open /srv/data/jobs/: it is gone", "cannot open a folder: it is gone"),
        ("cannot identify <_io.BytesIO object at 0x7f31a0c4d2b0>", "cannot identify _io.BytesIO"),
        ("bad value at 0x7f31a0c4d2b0 in it", "bad value in it"),
        ("Load failed: /onnxruntime_src/core/graph/model.cc:146 bad", "Load failed: bad"),
        ("(psycopg.errors.DiskFull) could not extend file", "could not extend file"),
        ("[SQL: SELECT 1]", "the details are in the server's log"),
    ],
)
def test_what_leaves_the_machine_says_nothing_of_its_insides(detail: str, told: str) -> None:
    assert public(detail) == told
    assert public(told) == told
    assert ArchsearchError(detail).problem()["detail"] == told
    assert ArchsearchError(detail).detail == detail  # the log and the shell have all of it
    assert public_problem({"code": "error", "detail": detail}) == {"code": "error", "detail": told}


@pytest.mark.parametrize(
    "detail",
    [
        "upload up_1 is not complete; POST /v1/uploads/up_1:complete first",
        "send files in parts, PUT /v1/uploads/{id}/parts/{n}",
        "see https://huggingface.co/timm/resnet18.a1_in1k/blob/main/config.json",
        "hf-hub:owner/name and application/json, 3/4 of 16 images, train/cat/1.png",
        "class 'a/b' has 1 image; see its /pareto, or /readyz",
        "params ≤ 1000 and macs ≤ 2000 at 0x7",
    ],
)
def test_what_is_for_the_client_stays(detail: str) -> None:
    assert public(detail) == detail
