"""Tables of encoders that scores of size are judged on: closed forms of published shapes, nothing is built or run.

`nas_bench_bert` (Serianni and Kalita 2023) holds 500 ELECTRAs, trained alike and fine-tuned on GLUE; what is wrong with
its published columns is in ../shared/data/language/README.md, and networks here are the ones that were trained.
`distilled_encoders` holds published students of several sources, which compare within a source and a teacher only.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import kendalltau, spearmanr

from archsearch.evidence import Evidence, Layer, NetworkEvidence
from archsearch.proxies import proxies

Floats = npt.NDArray[np.float64]
NAS_BENCH_BERT, DISTILLED = "nas_bench_bert", "distilled_encoders"
FILES: Mapping[str, str] = {name: f"language/{name}.csv" for name in (NAS_BENCH_BERT, DISTILLED)}
BINS = 5
# Registered proxies that shapes alone decide, once every layer is taken to be alive.
PROXIES = ("encoder_size", "capacity", "hm", "minrank")
METRICS = ("mnli_m", "sst2", "qnli", "squad1_f1", "squad2_f1")


@dataclass(frozen=True)
class Encoder:
    """A network of a table.

    Attributes:
        feed_forward: For every layer the sides (out, in) of its feed-forward's matrices.
        params: As trained, embeddings included.
        group: Networks of different groups do not compare.
    """

    width: int
    feed_forward: tuple[tuple[tuple[int, int], ...], ...]
    params: float
    quality: Mapping[str, float]
    group: str = ""

    @property
    def depth(self) -> int:
        return len(self.feed_forward)


def read(folder: Path, name: str) -> list[Encoder]:
    """A table's networks."""
    with (folder / FILES[name]).open(newline="") as file:
        return list((_nas_bench_bert if name == NAS_BENCH_BERT else _distilled)(csv.DictReader(file)))


def _nas_bench_bert(rows: csv.DictReader[str]) -> Iterator[Encoder]:
    for row in rows:
        width, wide = int(row["hidden"]), 4 * int(row["hidden"])
        layers = []
        for matrices, ffn in zip(_numbers(row["n_ff"]), _numbers(row["ff_dim"]), strict=True):
            inner = ((ffn, wide), (ffn, ffn)) if matrices == 3 else ()
            layers.append(((wide, width), *inner, (width, inner[-1][0] if inner else wide)))
        yield Encoder(width, tuple(layers), float(row["params"]), {"glue": float(row["glue"])})


def _distilled(rows: csv.DictReader[str]) -> Iterator[Encoder]:
    for row in rows:
        width, ffn = int(row["hidden"]), int(row["ffn"])
        layers = (((ffn, width), (width, ffn)),) * int(row["layers"])
        quality = {metric: float(row[metric]) for metric in METRICS if row[metric]}
        if "(teacher)" not in row["student"]:
            yield Encoder(width, layers, float(row["params_m"]), quality, f"{row['source']}, {row['teacher']}")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split("-")]


def sizes(encoders: list[Encoder]) -> dict[str, Floats]:
    """Every score of every network, in nats where it has a unit."""
    depth_N, width_N = (np.array([getattr(e, side) for e in encoders], float) for side in ("depth", "width"))
    found = {
        "params": np.array([e.params for e in encoders]),
        "block params": np.array([sum(layer.params for layer in _layers(e)) for e in encoders], float),
        "depth": depth_N,
        "depth x width": depth_N * width_N,
        "depth^2 x width": depth_N**2 * width_N,
        "depth, then width": depth_N * 1e6 + width_N,
    }
    for name in PROXIES:
        measure: Callable[[Evidence], float | torch.Tensor] = proxies.get(name).measure
        found[name] = np.array([float(measure(_evidence(e))) for e in encoders])
    # Sums of the same numbers in another order are the same size.
    return {name: np.round(np.log(values_N), 9) for name, values_N in found.items()}


def _layers(encoder: Encoder) -> tuple[Layer, ...]:
    width = encoder.width
    return tuple(
        Layer(f"layer.{i}.{j}", *sides, 1, 1, 1, False)
        for i, feed_forward in enumerate(encoder.feed_forward)
        for j, sides in enumerate((*((width, width),) * 4, *feed_forward))
    )


def _evidence(encoder: Encoder) -> Evidence:
    layers = _layers(encoder)
    live = tuple((layer, torch.tensor(1.0)) for layer in layers)
    return Evidence(layers, int(encoder.params), 0, 1, NetworkEvidence(torch.zeros(1, 2)), {"live": live})


def ranks(encoders: list[Encoder]) -> dict[str, dict[str, float]]:
    """Kendall's τ-b and Spearman's ρ with GLUE; τ inside bins of parameters, and among networks of one shape."""
    quality_N = np.array([e.quality["glue"] for e in encoders])
    params_N = np.array([e.params for e in encoders])
    bins = np.array_split(np.argsort(params_N, kind="stable"), BINS)
    shapes = [(e.depth, e.width) for e in encoders]
    same = [np.flatnonzero([shape == other for other in shapes]) for shape in sorted(set(shapes))]
    rows = {}
    for name, size_N in sizes(encoders).items():
        rows[name] = {
            "tau": _tau(size_N, quality_N),
            "rho": float(spearmanr(size_N, quality_N).statistic),
            "tau_in_bins": float(np.mean([_tau(size_N[rows], quality_N[rows]) for rows in bins])),
            "tau_same_shape": float(np.mean([_tau(size_N[rows], quality_N[rows]) for rows in same])),
        }
    return rows


def pairs(encoders: list[Encoder]) -> dict[str, dict[str, list[int]]]:
    """For each metric how many pairs of one source and teacher a score puts right, wrong, and leaves equal."""
    found = {}
    for name, size_N in sizes(encoders).items():
        counts = {metric: [0, 0, 0] for metric in METRICS}
        for (one, a), (other, b) in combinations(zip(size_N, encoders, strict=True), 2):
            if a.group == b.group and (a.depth, a.width) != (b.depth, b.width):
                for metric in a.quality.keys() & b.quality.keys():
                    agree = (one - other) * (a.quality[metric] - b.quality[metric])
                    counts[metric][0 if agree > 0 else 1 if agree < 0 else 2] += 1
        found[name] = counts
    return found


def _tau(size_N: Floats, quality_N: Floats) -> float:
    """0 where a score is silent."""
    return 0.0 if np.ptp(size_N) == 0 else float(kendalltau(size_N, quality_N).statistic)


def judge_table(folder: Path, name: str) -> dict[str, object]:
    """What `benchmarks.ranking` reports of a table, printed too."""
    encoders = read(folder, name)
    print(f"\n{name}: {len(encoders)} encoders")
    if name == NAS_BENCH_BERT:
        rows = ranks(encoders)
        print(f"{'score':<20}{'tau':>9}{'rho':>9}{'in bins':>9}{'same shape':>12}")
        for score, row in sorted(rows.items(), key=lambda item: -item[1]["tau"]):
            print(
                f"{score:<20}"
                + "".join(f"{value:>{w}.3f}" for value, w in zip(row.values(), (9, 9, 9, 12), strict=True))
            )
        sys.stdout.flush()
        return {"n": len(encoders), "note": "closed forms; mean of eight GLUE tasks", "rows": rows}
    counts = pairs(encoders)
    print(f"{'pairs right-wrong-equal':<24}" + "".join(f"{metric:>12}" for metric in METRICS))
    for score, row in counts.items():
        print(f"{score:<24}" + "".join(f"{'-'.join(map(str, row[metric])):>12}" for metric in METRICS))
    sys.stdout.flush()
    return {"n": len(encoders), "note": "pairs of one source and teacher", "rows": counts}
