"""Figures of the turns, their ratios, and the table people see."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch

from archsearch.precision import Precision
from benchmarks.distill_speed.setting import Setting

PLAIN, ONLINE, CACHED, FLOOR = "plain", "ours online", "ours cached", "floor"
OURS = (ONLINE, CACHED)
RATIOS = ("vs_plain", "vs_best_peer", "over_floor")


@dataclass(frozen=True)
class Speed:
    """One contestant in one setting: medians, and images/s of every round."""

    images_per_s: float
    step_ms: float
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Ratios:
    """Of one of our trainings; `vs_best_peer` is None where there are no peers."""

    vs_plain: float
    vs_best_peer: float | None
    over_floor: float


@dataclass(frozen=True)
class Row:
    """One pair at one batch size. Speeds are by contestant, ratios by our trainings, precision ours and the floor's."""

    pair: str
    batch_size: int
    precision: str
    steps: int
    speeds: Mapping[str, Speed]
    ratios: Mapping[str, Ratios]


@dataclass(frozen=True)
class Machine:
    """Where it was measured. `torchdistill` is None where it is not installed."""

    device: str
    precision: str
    threads: int
    cores: int
    torch: str
    timm: str | None
    torchdistill: str | None


@dataclass(frozen=True)
class Report:
    """All settings. `summary` has the medians of their ratios: of `ours cached`, and with a suffix `ours online`."""

    summary: Mapping[str, float | None]
    machine: Machine
    images: str
    rows: tuple[Row, ...]


def row(setting: Setting, times: Mapping[str, Sequence[float]]) -> Row:
    """Figures of a setting from the seconds of every contestant's turns."""
    images = setting.steps * setting.batch_size
    rounds = {name: tuple(images / seconds for seconds in each) for name, each in times.items()}
    speeds = {
        name: Speed(median(each), 1000 * setting.batch_size / median(each), each) for name, each in rounds.items()
    }
    ratios = {name: _ratios(rounds, name) for name in OURS}
    return Row(str(setting.pair), setting.batch_size, setting.precision, setting.steps, speeds, ratios)


def _ratios(rounds: Mapping[str, Sequence[float]], name: str) -> Ratios:
    peers = [each for other, each in rounds.items() if other not in (PLAIN, FLOOR, *OURS)]
    best = [max(each) for each in zip(*peers, strict=True)]
    mine, floor = rounds[name], rounds[FLOOR]
    return Ratios(
        vs_plain=_median_ratio(mine, rounds[PLAIN]),
        vs_best_peer=_median_ratio(mine, best) if best else None,
        over_floor=_median_ratio(floor, mine),
    )


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def summarise(rows: Sequence[Row]) -> dict[str, float | None]:
    """Medians over the settings."""
    found: dict[str, float | None] = {}
    for name, suffix in ((CACHED, ""), (ONLINE, "_online")):
        for ratio in RATIOS:
            values = [value for each in rows if (value := getattr(each.ratios[name], ratio)) is not None]
            found[ratio + suffix] = median(values) if values else None
    return found


def machine(device: str, precision: Precision) -> Machine:
    return Machine(
        device=torch.cuda.get_device_name() if device == "cuda" else device,
        precision="measured" if precision == "auto" else precision,
        threads=torch.get_num_threads(),
        cores=cores(),
        torch=torch.__version__,
        timm=installed("timm"),
        torchdistill=installed("torchdistill"),
    )


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(package: str) -> str | None:
    """A package's version, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(report: Report, *, peers: bool) -> None:
    where = report.machine
    print(f"{where.device}, {where.precision}, {where.threads} threads, {where.cores} cores; {report.images}")
    print(f"torch {where.torch}, timm {where.timm}, torchdistill {where.torchdistill or 'not installed'}")
    for each in report.rows:
        print(f"\n{each.pair}, batch {each.batch_size}, {each.precision}, {each.steps} steps a turn")
        print(f"{'':<14}{'images/s':>10}{'ms/step':>10}{'vs plain':>10}{'vs best peer':>14}{'over floor':>12}")
        for name, speed in each.speeds.items():
            ratios = asdict(each.ratios[name]) if name in each.ratios else {}
            print(f"{name:<14}{speed.images_per_s:>10.1f}{speed.step_ms:>10.1f}{_told(ratios)}")
    print()
    for name, suffix in ((ONLINE, "_online"), (CACHED, "")):
        print(f"{name + ', median':<34}{_told({ratio: report.summary[ratio + suffix] for ratio in RATIOS})}")
    if peers and where.torchdistill is None:
        print("torchdistill took no part, it is not installed: pip install torchdistill")


def _told(ratios: Mapping[str, float | None]) -> str:
    widths = zip(RATIOS, (10, 14, 12), strict=True)
    return "".join(
        f"{'–' if (value := ratios[name]) is None else f'{value:.2f}':>{width}}" for name, width in widths if ratios
    )
