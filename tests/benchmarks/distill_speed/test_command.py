from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import pytest
import torch

from benchmarks.distill_speed import images, precisions
from benchmarks.distill_speed.__main__ import main, pair, settings
from benchmarks.distill_speed.images import load_images
from benchmarks.distill_speed.report import installed
from benchmarks.distill_speed.setting import Pair, network
from tests.benchmarks.distill_speed.conftest import few_images

CONTESTANTS = {"plain", "timm", "timm amp", "ours online", "ours cached", "floor"}


def test_everyone_is_measured_and_ratios_are_quotients_of_the_figures(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(images, "NOISE_IMAGES", 32)
    path = tmp_path / "speed.json"
    arguments = ["--pairs", "8:8", "--batches", "8", "--steps", "2", "--rounds", "2", "--workers", "0"]
    main([*arguments, "--precision", "fp32", "--json", str(path)])
    report = json.loads(path.read_text())
    expected = CONTESTANTS | ({"torchdistill"} if installed("torchdistill") else set())
    (row,) = report["rows"]
    assert set(row["speeds"]) == expected
    assert (row["pair"], row["batch_size"], row["steps"]) == ("ResNet-8 → ResNet-8", 8, 2)
    rounds = {name: speed["rounds"] for name, speed in row["speeds"].items()}
    for name, speed in row["speeds"].items():
        assert len(rounds[name]) == 2
        assert min(rounds[name]) > 0
        assert speed["images_per_s"] == pytest.approx(median(rounds[name]))
        assert speed["step_ms"] == pytest.approx(8000 / speed["images_per_s"])
    peers = [rounds[name] for name in expected & {"timm", "timm amp", "torchdistill"}]
    best = [max(each) for each in zip(*peers, strict=True)]
    for name, suffix in (("ours cached", ""), ("ours online", "_online")):
        mine, plain, floor = rounds[name], rounds["plain"], rounds["floor"]
        assert row["ratios"][name] == pytest.approx(
            {
                "vs_plain": median([mine[0] / plain[0], mine[1] / plain[1]]),
                "vs_best_peer": median([mine[0] / best[0], mine[1] / best[1]]),
                "over_floor": median([floor[0] / mine[0], floor[1] / mine[1]]),
            }
        )
        for ratio, value in row["ratios"][name].items():
            assert report["summary"][ratio + suffix] == value
    assert report["images"] == "32 images of noise"
    machine = report["machine"]
    assert (machine["device"], machine["precision"]) == ("cpu", "fp32")
    assert machine["threads"] == torch.get_num_threads()
    out, err = capsys.readouterr()
    assert all(f"\n{name} " in out for name in expected)
    assert err == "", "no progress bar where nobody watches"


def test_what_auto_takes_is_shown_beside_the_times(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(precisions, "NETWORKS", {"RegNet": precisions.NETWORKS["RegNet"]})
    monkeypatch.setattr(precisions, "find_spec", lambda name: None)
    monkeypatch.setattr(precisions, "PIXELS", 32)
    monkeypatch.setattr(precisions, "BATCH", 8)
    path = tmp_path / "precision.json"
    main(["--only", "precision", "--rounds", "1", "--json", str(path)])
    report = json.loads(path.read_text())
    (row,) = report["rows"]
    assert row["chosen"] in row["step_ms"]
    assert min(row["step_ms"].values()) > 0
    assert report["summary"] == {"networks": 1, "right": int(row["right"])}
    assert row["why"] in capsys.readouterr().out


def test_auto_is_right_where_it_takes_the_faster_and_of_like_ones_the_more_exact() -> None:
    assert precisions.right({"fp32": 1.0, "bf16": 0.95}, "fp32")
    assert not precisions.right({"fp32": 1.0, "bf16": 0.8}, "fp32")
    assert precisions.right({"fp32": 1.0, "bf16": 0.8}, "bf16")
    assert not precisions.right({"fp32": 1.0, "bf16": 1.1}, "bf16")


def test_pairs_are_networks_of_the_fields_tables() -> None:
    task = few_images(1).task
    assert pair("32x4:8x4") == Pair("32x4", "8x4")
    resnet20, resnet8x4 = (network(name, task) for name in ("20", "8x4"))
    assert sum(weight.numel() for weight in resnet20.parameters()) == 278_324  # as RepDistiller's at 100 classes
    assert [stage["num_chs"] for stage in resnet8x4.feature_info] == [64, 128, 256]  # type: ignore[union-attr, index]
    for wrong in ("56", "56:21", "32x0:8", "2:2"):
        with pytest.raises(argparse.ArgumentTypeError, match="TEACHER:STUDENT"):
            pair(wrong)


def test_larger_batches_do_fewer_steps(tmp_path: Path) -> None:
    arguments = argparse.Namespace(
        pairs=[Pair("8", "8")],
        batches=[16, 64, 512],
        steps=None,
        warmup=None,
        device="cpu",
        precision="auto",
        workers=2,
    )
    dataset, _ = load_images(None)
    found = settings(arguments, dataset, tmp_path)
    assert [each.steps for each in found] == [10, 10, 1]
    assert len({each.home for each in found}) == 3
    with pytest.raises(SystemExit, match="need more than 8 images"):
        settings(arguments, few_images(8), tmp_path)
