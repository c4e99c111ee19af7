"""Trainings of texts by method and seed: what one is, what is kept, and what the table makes of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

from benchmarks import text_quality
from benchmarks.quality import Run, kept_runs, run_all, summary, table
from benchmarks.text_quality import Setting, distil, fine_tuned
from tests.domains.text_classification.test_domain import write_texts
from tests.zoos.transformers.encoders import CONFIGS, write_folder

RUNS = [
    Run("none", 0, 80.0, 81.0, 5.0, test_macro_f1=79.0),
    Run("none", 1, 82.0, 81.0, 7.0, test_macro_f1=80.0),
    Run("kd", 0, 83.0, 82.0, 6.0, test_macro_f1=83.0),
    Run("kd", 1, 84.0, 82.0, 6.0, test_macro_f1=84.0),
    Run("minilm", 0, 90.0, 82.0, 6.0, test_macro_f1=90.0),
    Run("minilm", 1, None, None, 1.0, "the loss is no number"),
]


def test_gains_are_over_the_student_without_its_teacher() -> None:
    first, second, third = table(RUNS)
    assert [row.method for row in (first, second, third)] == ["minilm", "kd", "none"]
    assert (first.mean, first.sd, first.gain, first.over_kd, first.failed, first.selection) == (90, 0, 9, 6.5, 1, 82)
    assert (second.mean, second.gain, second.macro_f1, second.failed) == (83.5, 2.5, 83.5, 0)
    assert second.sd == pytest.approx(0.5**0.5)
    assert summary([first, second, third]) == {"kd_gain": 2.5, "best_method": "minilm", "best_gain": 9}


def never(method: str, seed: int) -> Run:
    raise AssertionError(f"{method} {seed} is trained again")


def test_what_was_trained_is_not_trained_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text("".join(json.dumps(asdict(run)) + "\n" for run in RUNS[:4]))
    assert list(kept_runs(kept)) == RUNS[:4]
    assert run_all(kept, never, ["none", "kd"], 2, 1) == [RUNS[0], RUNS[2], RUNS[1], RUNS[3]]


def test_a_teacher_is_made_once_and_students_of_a_method_and_seed_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(CONFIGS["bert"], "max_position_embeddings", 128)
    write_folder(tmp_path / "encoder", "bert")
    data = write_texts(tmp_path / "texts.csv", 120)
    made = fine_tuned(data, tmp_path / "encoder", {"epochs": 1, "batch_size": 16, "lr": 1e-3})
    written = (made / text_quality.TRAINING).stat().st_mtime_ns
    assert fine_tuned(data, tmp_path / "encoder", {"epochs": 1, "batch_size": 16, "lr": 1e-3}) == made
    assert (made / text_quality.TRAINING).stat().st_mtime_ns == written
    spec = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    setting = Setting(data, made, {"layers": 1, "heads": 1, "ffn_ratio": 1}, spec)
    first, again = (distil(setting, 1, "auto", 0) for _ in range(2))
    assert (first.test_acc, first.test_macro_f1) == (again.test_acc, again.test_macro_f1)
    assert first.test_acc is not None
    assert 0 <= first.test_acc <= 100
    other = Setting(data, made, {"layers": 1, "heads": 1, "ffn_ratio": 1}, {**spec, "epochs": 2})
    assert other.identity != setting.identity


def test_without_the_data_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text_quality.main(["--data", str(tmp_path)])
    assert "nothing to measure" in capsys.readouterr().err
