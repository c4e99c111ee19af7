from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from archsearch.data.task import Dataset
from archsearch.distill import view_cache
from archsearch.distill.augment import Views
from archsearch.distill.feed import feed
from archsearch.distill.group import Group
from archsearch.distill.train import train
from archsearch.teachers import normalise
from benchmarks import distill_speed
from benchmarks.distill_speed import Pair, Setting

# B batch, C channels, H W space, N images, V views

CONTESTANTS = {"plain", "timm", "timm amp", "ours online", "ours cached", "floor"}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    dataset = few_images(8)
    return Setting(Pair("14", "8"), 8, dataset, "cpu", "fp32", workers=0, warmup=1, steps=2, home=tmp_path / "views")


def few_images(count: int) -> Dataset:
    dataset, _ = distill_speed.load_images(None)
    return replace(dataset, train=dataset.train.take(slice(0, count)))


def test_everyone_is_measured_and_ratios_are_quotients_of_the_figures(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(distill_speed, "NOISE_IMAGES", 32)
    path = tmp_path / "speed.json"
    arguments = ["--pairs", "8:8", "--batches", "8", "--steps", "2", "--rounds", "2", "--workers", "0"]
    distill_speed.main([*arguments, "--precision", "fp32", "--json", str(path)])
    report = json.loads(path.read_text())
    expected = CONTESTANTS | ({"torchdistill"} if distill_speed.installed("torchdistill") else set())
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


def test_all_have_the_same_loss_for_the_same_weights_and_views(setting: Setting) -> None:
    task, spec = setting.dataset.task, setting.spec
    shown = next(iter(feed(setting.dataset, spec, "cpu", Group()).epoch(0, 0)))
    x_BCHW = normalise(shown.x_BCHW, task.mean, task.std)

    def pair() -> tuple[torch.nn.Module, torch.nn.Module]:
        return distill_speed.student_of(setting), distill_speed.teacher_of(setting)

    student, teacher = pair()
    with torch.no_grad():
        expected = distill_speed.research_loss(student(x_BCHW), teacher(x_BCHW), shown.y).item()
    assert expected > 0.1
    timm = distill_speed.distillation_task(*pair(), "cpu").train()(x_BCHW, shown.y)["loss"]
    assert timm.item() == pytest.approx(expected, rel=1e-5)
    if distill_speed.installed("torchdistill"):
        box = distill_speed.distillation_box(*pair(), setting)
        box.pre_epoch_process(epoch=0)
        assert box.forward_process(x_BCHW, shown.y, None).item() == pytest.approx(expected, rel=1e-5)
    # Ours from outside: a training of one step, which shows these views and reports the loss it had.
    for cache, close in ((None, 1e-5), (setting.home, 1e-3)):
        student, teacher = pair()
        *_, last = train(student, setting.dataset, spec, teacher=distill_speed.as_teacher(teacher, task), cache=cache)
        assert last.steps == 1
        assert last.loss == pytest.approx(expected, rel=close)


def test_all_loaders_show_the_same_crops_and_flips(setting: Setting) -> None:
    task, split = setting.dataset.task, setting.dataset.train
    views = Views(4, 4, mirrored=True)
    x_NHWC = torch.from_numpy(split.x_NHWC).repeat_interleave(views.count, 0)
    x_VCHW = views.apply(x_NHWC, torch.arange(views.count).repeat(len(split)))
    known_V = normalise(x_VCHW / 255, task.mean, task.std).flatten(1)
    seen: set[int] = set()
    for x_BCHW, y_B in first_batches(setting):
        distance_BV = torch.cdist(x_BCHW.flatten(1), known_V)
        nearest_B = distance_BV.argmin(1)
        assert distance_BV.min(1).values.max() < 0.05, "an image is in none of the views"
        assert torch.equal(split.labels()[nearest_B // views.count], y_B)
        seen |= set((nearest_B % views.count).tolist())
    assert len(seen) > 3


def first_batches(setting: Setting) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    x_BCHW, y_B, index_B = next(iter(distill_speed.plain_loader(setting)))
    assert torch.equal(setting.dataset.train.labels()[index_B], y_B)
    yield x_BCHW, y_B
    x_BCHW, y_B = next(iter(distill_speed.timm_loader(setting)))
    yield x_BCHW, y_B
    if distill_speed.installed("torchdistill"):
        networks = distill_speed.student_of(setting), distill_speed.teacher_of(setting)
        x_BCHW, y_B, _ = next(iter(distill_speed.distillation_box(*networks, setting).train_data_loader))
        yield x_BCHW, y_B


def test_everyone_trains(setting: Setting) -> None:
    """Each loop's steps change its student, and a loop goes on over the ends of epochs."""
    changed: list[tuple[object, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        weights = [weight.detach() for group in optimizer.param_groups for weight in group["params"]]
        changed.append((id(optimizer), sum(weight.double().sum().item() for weight in weights)))

    loops = {
        "plain": distill_speed.plain(setting),
        **distill_speed.peers_of(setting),
        "floor": distill_speed.floor(setting),
    }
    hook = register_optimizer_step_post_hook(look)
    try:
        for name, loop in loops.items():
            changed.clear()
            distill_speed.go_on(loop, 3, "cpu")
            loop.close()
            assert len({optimizer for optimizer, _ in changed}) == 1, name
            assert len({value for _, value in changed}) == 3, name
    finally:
        hook.remove()


def test_time_is_taken_when_the_steps_of_an_optimizer_are_done() -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(())
    with distill_speed.step_times((1, 3), "cpu") as times:
        counts = []
        for _ in range(4):
            optimizer.step()
            counts.append(len(times))
    assert counts == [1, 1, 2, 2]
    optimizer.step()
    assert len(times) == 2, "nobody looks any more"
    assert times[0] < times[1]


def test_a_cache_without_room_is_told_instead_of_measured(setting: Setting, monkeypatch) -> None:
    monkeypatch.setattr(view_cache, "_DISK_SHARE", 0.0)
    turn = distill_speed.ours(setting, cached=True)
    with pytest.raises(SystemExit, match="had none of the answers"):
        turn()


def test_ratios_are_medians_of_the_rounds_own(setting: Setting) -> None:
    times = {
        "plain": [6.0, 9.0, 30.0],
        "timm": [4.0, 8.0, 10.0],
        "torchdistill": [8.0, 4.0, 12.0],
        "ours online": [3.0, 3.0, 3.0],
        "ours cached": [2.0, 1.0, 2.0],
        "floor": [1.0, 1.0, 1.0],
    }
    row = distill_speed.row(replace(setting, steps=3), times)
    assert row.speeds["plain"].rounds == (4.0, 8 / 3, 0.8)
    assert row.speeds["plain"].images_per_s == 8 / 3
    assert row.speeds["plain"].step_ms == pytest.approx(3000)
    cached = row.ratios["ours cached"]
    assert (cached.vs_plain, cached.vs_best_peer, cached.over_floor) == (9, 4, 2)
    without = {name: times[name] for name in ("plain", *distill_speed.OURS, "floor")}
    alone = distill_speed.row(replace(setting, steps=3), without)
    assert alone.ratios["ours online"] == distill_speed.Ratios(3, None, 3)
    summary = distill_speed.summarise([row, alone])
    assert (summary["vs_plain"], summary["vs_best_peer"], summary["over_floor_online"]) == (9, 4, 3)


def test_what_is_not_installed_takes_no_part_and_is_told(setting: Setting, monkeypatch, capsys) -> None:
    monkeypatch.setattr(distill_speed, "installed", lambda package: None if package == "torchdistill" else "1.0")
    assert set(distill_speed.peers_of(setting)) == {"timm", "timm amp"}
    row = distill_speed.row(setting, {name: [1.0] for name in sorted(CONTESTANTS)})
    machine = distill_speed.machine("cpu", "fp32")
    report = distill_speed.Report(distill_speed.summarise([row]), machine, "noise", (row,))
    distill_speed.show(report, peers=True)
    assert "pip install torchdistill" in capsys.readouterr().out
    distill_speed.show(report, peers=False)
    assert "pip install torchdistill" not in capsys.readouterr().out


def test_pairs_are_networks_of_the_fields_tables() -> None:
    task = few_images(1).task
    assert distill_speed.pair("32x4:8x4") == Pair("32x4", "8x4")
    resnet20, resnet8x4 = (distill_speed.network(name, task) for name in ("20", "8x4"))
    assert sum(weight.numel() for weight in resnet20.parameters()) == 278_324  # as RepDistiller's at 100 classes
    assert [stage["num_chs"] for stage in resnet8x4.feature_info] == [64, 128, 256]  # type: ignore[union-attr, index]
    for wrong in ("56", "56:21", "32x0:8", "2:2"):
        with pytest.raises(argparse.ArgumentTypeError, match="TEACHER:STUDENT"):
            distill_speed.pair(wrong)


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
    dataset, _ = distill_speed.load_images(None)
    settings = distill_speed.settings(arguments, dataset, tmp_path)
    assert [each.steps for each in settings] == [10, 10, 1]
    assert len({each.home for each in settings}) == 3
    with pytest.raises(SystemExit, match="need more than 8 images"):
        distill_speed.settings(arguments, few_images(8), tmp_path)
