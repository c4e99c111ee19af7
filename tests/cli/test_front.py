from __future__ import annotations

import pytest

from archsearch.cli.display import show_front, show_students

FRONT = [
    {"number": 7, "space": "vit", "architecture": {"depth": 2}, "score": 1.5, "params": 1200, "macs": 3_400_000,
     "latency_ms": 0.51},
    {"number": 3, "space": "resnet_cifar", "architecture": {"depth1": 4}, "score": 2.25, "params": 56_000,
     "macs": 7_800_000, "latency_ms": 0.9,
     "measured": {"latency_ms": 0.95, "low_ms": 0.94, "high_ms": 0.99, "repeats": 20}},
]  # fmt: skip


@pytest.mark.parametrize("columns", [80, 140])
def test_a_front_is_readable_on_narrow_and_wide_terminals(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_front(FRONT, "latency_ms", 3)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    for said in ("vit depth=2", "1.2k", "3.4M", "~0.51 ms", "0.95 ms", "(0.94–0.99)", "2.250"):
        assert said in text
    assert ("█" in text) == (columns == 140)


def test_a_cost_that_is_shown_anyway_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_front(FRONT, "params", None)
    assert capsys.readouterr().out.count("1.2k") == 1


def student(number: int, limit: float, ms: float, acc: float, **more: object) -> dict[str, object]:
    timed = {"measured": {"latency_ms": ms, "low_ms": 0.9 * ms, "high_ms": 1.1 * ms}}
    return {**FRONT[0], **timed, "student": number, "limit": {"latency_ms": limit}, "test_acc": acc, "failed": None,
            "same_as": None, **more}  # fmt: skip


@pytest.mark.parametrize("columns", [80, 140])
def test_students_stand_side_by_side_with_what_each_reaches(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    failed = {"student": 3, "limit": {"latency_ms": 1}, "failed": "it diverged", "same_as": None}
    rows = [student(1, 5, 4.5, 77.5), student(2, 2, 1.8, 71.25), failed, student(4, 0.5, 0.4, 60.0, same_as=2)]
    teacher = {
        "params": 3_400_000,
        "macs": 9e6,
        "test_acc": 73.4,
        "measured": {"latency_ms": 7, "low_ms": 6, "high_ms": 8},
    }
    stock = [{"network": "resnet18", "params": 11_000_000, "macs": 1.8e9, "test_acc": 61.0}]
    judge = {"key": "acc", "name": "accuracy", "unit": "%", "better": "higher"}
    show_students({"students": rows, "judged_by": judge, "teacher": teacher, "stock": stock})
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    said = ("1 ≤ 5", "77.50 %", "2 ≤ 2", "1.8 ms", "71.25 %", "3 ≤ 1", "it diverged", "that of student 2", "73.40 %")
    for words in (*said, "the teacher", "resnet18", "linear probe"):
        assert words in " ".join(text.split())
