from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from archsearch.evidence import observe_student, observe_teacher
from archsearch.models import CifarResNet
from archsearch.proxies.score import score
from benchmarks import scoring_speed

# B batch, C channels, H W space


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.randint(100, (8,), generator=generator)


def test_one_network_gives_all_figures_and_ratios_are_their_quotients(tmp_path: Path, capsys) -> None:
    path = tmp_path / "speed.json"
    arguments = ["--networks", "1", "--repeats", "1", "--batch-size", "8", "--precision", "fp32"]
    scoring_speed.main([*arguments, "--json", str(path)])
    report = json.loads(path.read_text())
    assert report.keys() == {
        *("reference_ms", "floor_ms", "ours_ms", "with_build_ms", "speedup", "over_floor", "candidates_per_s"),
        *("peak_mb", "device", "precision", "threads", "batch_size", "rows"),
    }
    assert report["speedup"] == pytest.approx(report["reference_ms"] / report["ours_ms"])
    assert report["over_floor"] == pytest.approx(report["ours_ms"] / report["floor_ms"])
    assert report["candidates_per_s"] == pytest.approx(1000 / report["with_build_ms"])
    assert min(report[name] for name in ("reference_ms", "floor_ms", "ours_ms", "with_build_ms")) > 0
    assert report["peak_mb"] >= 0
    assert (report["device"], report["precision"], report["batch_size"]) == ("cpu", "fp32", 8)
    assert report["threads"] == torch.get_num_threads()
    (row,) = report["rows"]
    assert row["depths"] == [1, 1, 1]
    assert row["ours_ms"] == report["ours_ms"]
    out, err = capsys.readouterr()
    assert "1,1,1" in out
    assert "candidates a second" in out
    assert err == "", "no progress bar where nobody watches"


def test_ratios_are_medians_of_the_networks_own(monkeypatch) -> None:
    times = iter([(90, 10, 10, 20), (60, 10, 20, 20), (30, 10, 30, 40)])

    def row(spec, bench, architecture, teacher, x_BCHW, repeats) -> scoring_speed.Row:
        return scoring_speed.Row((1, 1, 1), *map(float, next(times)))

    monkeypatch.setattr(scoring_speed, "time_one", row)
    report = scoring_speed.measure(scoring_speed.spread(3)[:1] * 3, "cpu", "fp32", 8, 1)
    assert (report.reference_ms, report.ours_ms) == (60, 20)
    assert (report.speedup, report.over_floor) == (3, 2)
    assert report.candidates_per_s == pytest.approx(3000 / (20 + 20 + 40))


def test_networks_are_spread_evenly_from_the_shallowest_to_the_deepest() -> None:
    depths = [tuple(a[f"depth{i}"] for i in (1, 2, 3)) for a in scoring_speed.spread(12)]
    assert len(set(depths)) == 12
    assert (depths[0], depths[-1]) == ((1, 1, 1), (7, 7, 7))
    totals = [sum(each) for each in depths]
    assert totals == sorted(totals)
    everything = scoring_speed.spread(1000)
    assert len({tuple(a.values()) for a in everything}) == len(everything) == len(scoring_speed.S1) == 64


def test_the_reference_computes_diswot(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """With K D×D matrices spelt out it comes to what the proxy finds in closed form."""
    x_BCHW, y_B = batch
    torch.manual_seed(0)
    teacher, student = (CifarResNet((depth, 1, 1)).train() for depth in (2, 1))
    expected = scoring_speed.diswot(teacher, student, x_BCHW, y_B)
    evidence = observe_teacher(teacher, x_BCHW, y_B, {"head", "relations"})
    measured = observe_student(student, x_BCHW, y_B, evidence, {"head", "relations"})
    assert score(measured, {"diswot": 1.0}).value == pytest.approx(expected, abs=1e-4)


def test_the_floor_finds_the_gradients_of_all_parameters(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    x_BCHW, y_B = batch
    torch.manual_seed(0)
    teacher, student = CifarResNet((1, 1, 1)).eval(), CifarResNet((1, 1, 1))
    floor = scoring_speed.bare_pass(student, x_BCHW, observe_teacher(teacher, x_BCHW, y_B, set()), "fp32")
    floor()
    first = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    floor()
    # Each run starts afresh: gradients are not summed over runs.
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, first[name], msg=name)


def test_precision_is_told_as_it_comes_out() -> None:
    cpu = torch.device("cpu")
    assert scoring_speed.effective("fp32", cpu) == "fp32"
    assert scoring_speed.effective("bf16", cpu) == "bf16"
    assert scoring_speed.effective("auto", cpu) in ("fp32", "bf16")
