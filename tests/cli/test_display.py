from __future__ import annotations

import pytest

from archsearch.cli.display import show_verified
from archsearch.progress import Display, count, details, duration, warning_text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (31_434, "31.4k"), (1_234_567, "1.23M"), (4.56e9, "4.56G")],
)
def test_counts_are_short(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (5.4, "0:05"), (59.6, "1:00"), (95, "1:35"), (3725, "1:02:05")]
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_search_report_says_how_far_and_how_good() -> None:
    report = {
        "phase": "searching",
        "scored": 3,
        "candidates": 8,
        "best_score": 1.234,
        "best_params": 5_000,
        "eta_s": 61,
    }
    assert details(report) == "3/8 scored  best 1.23 (5k params)  ETA 1:01"
    assert (
        details({"phase": "searching", "scored": 0, "candidates": 8, "best_score": None, "eta_s": None}) == "0/8 scored"
    )


def test_a_distillation_report_says_loss_and_accuracy_where_measured() -> None:
    report = {"phase": "distilling", "epoch": 2, "epochs": 5, "loss": 0.51, "selection_acc": None, "eta_s": 0}
    assert details(report) == "epoch 2/5  loss 0.510"
    assert details({**report, "selection_acc": 91.26}) == "epoch 2/5  loss 0.510  selection 91.26 %"


def test_a_sum_of_losses_is_shown_with_its_terms_where_there_is_room() -> None:
    report = {"phase": "distilling", "epoch": 2, "epochs": 5, "loss": 0.51, "terms": {"labels": 0.102, "kd": 0.4083}}
    said = "epoch 2/5  loss 0.510  loss = labels 0.102 + kd 0.408"
    assert details(report) == details(report, len(said)) == said
    assert details(report, len(said) - 1) == "epoch 2/5  loss 0.510"
    assert details({**report, "terms": {"kd": 0.51}}) == "epoch 2/5  loss 0.510"


@pytest.mark.parametrize(("columns", "told"), [(60, False), (100, True)])
def test_terms_never_make_a_line_too_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, told: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    report = {"phase": "distilling", "epoch": 2, "epochs": 5, "loss": 0.51, "terms": {"labels": 0.102, "kd": 0.408}}
    with Display() as display:
        display.show({**report, "progress": 0.4})
    (line,) = capsys.readouterr().err.splitlines()
    assert ("kd" in line) is told


def test_where_there_is_no_terminal_there_are_plain_lines_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with Display() as display:
        display.show({"phase": "validating"})
        for i in range(100):
            display.show({"phase": "searching", "scored": i + 1, "candidates": 100, "progress": (i + 1) / 100})
        display.note("[bold]a note[/bold]")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["checking", "0", "%"],
        ["searching", "1", "%", "1/100", "scored"],
    ]
    assert lines[-2].split() == ["searching", "100", "%", "100/100", "scored"]
    assert lines[-1] == "[bold]a note[/bold]", "what a server says is no markup"
    assert len(lines) < 10, "a line every few seconds, not one a report"
    assert "\x1b" not in err


def test_a_report_says_which_round_or_training_it_is_of() -> None:
    verifying = {"phase": "verifying", "round": 1, "rounds": 3, "contenders": 8, "eta_s": 61}
    assert details(verifying) == "round 1/3, 8 contenders  ETA 1:01"
    report = {"phase": "distilling", "epoch": 2, "epochs": 5, "loss": 0.51, "trainings": 3, "training": "student"}
    assert details({**report, "seed": 4, "retries": 1}) == "seed 4  epoch 2/5  loss 0.510  rolled back 1×"
    assert details({**report, "training": "baseline", "seed": 0}) == "without teacher  epoch 2/5  loss 0.510"


def test_a_report_says_which_of_several_students_it_is_of() -> None:
    assert details({"phase": "verifying", "student": 2, "students": 3, "eta_s": 61}) == "student 2/3  ETA 1:01"


def test_each_student_is_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        for student in (1, 2, 2):
            display.warn({"code": "degraded", "detail": f"student {student}: worse", "student": student})
    assert capsys.readouterr().err.count("worse") == 2


def test_a_verification_is_a_table_of_ranks_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    def candidate(rank: int, by_score: int, accs: list[float | None]) -> dict[str, object]:
        network = {"number": 10 + rank, "space": "vit", "architecture": {"depth": rank}}
        return {"rank": rank, "rank_by_score": by_score, "selection_acc": accs, **network}

    show_verified(
        {
            "rounds": [{"contenders": 3, "epochs": 2}, {"contenders": 2, "epochs": 4}],
            "training_s": 75.0,
            "candidates": [candidate(1, 3, [41.0, 62.5]), candidate(2, 1, [45.5, 61.0]), candidate(3, 2, [None])],
        }
    )
    lines = capsys.readouterr().out.splitlines()
    assert "3 for 2 epochs, 2 for 4 epochs, 1:15 in all" in " ".join(line.strip() for line in lines[:2])
    rows = [[word.strip() for word in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert rows == [
        ["1", "3", "11", "vit depth=1", "41.00", "62.50"],
        ["2", "1", "12", "vit depth=2", "45.50", "61.00"],
        ["3", "2", "13", "vit depth=3", "failed", ""],
    ]


def test_a_warning_is_told_once_beside_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    warning = {"code": "odd", "detail": "the data are odd"}
    with Display() as display:
        display.show({"phase": "searching", "warning": warning})
        display.warn(warning)
    shown = capsys.readouterr()
    assert shown.err.split("\n") == ["warning: the data are odd", ""]
    assert not shown.out, "standard output is the result's"


def test_a_warning_is_yellow_where_there_are_colours() -> None:
    assert {str(span.style) for span in warning_text({"code": "odd", "detail": "odd"}).spans} == {
        "bold yellow",
        "yellow",
    }


def test_a_sign_of_life_does_not_throw_the_bar_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with Display() as display:
        display.show({"phase": "distilling", "progress": 0.5})
        display.show({"phase": "distilling"})
        (bar,) = display._progress.tasks
        assert bar.completed == 0.5
