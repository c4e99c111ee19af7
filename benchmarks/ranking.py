"""Does the score rank students as real distillation did?

    python -m benchmarks.ranking --data ../shared/data [--tables s1_c100,pit_c100] [--seeds 5] [--json FILE]

Scores every architecture of tables of published accuracies and compares the order, row by row:

    tau, rho      Kendall's τ-b and Spearman's ρ with the table's accuracy
    rho|params    ρ given the parameter count: what a score adds to size
    top20         τ among the best fifth; its standard error is .1 to .2
    regret        points the score's pick is below the best
    bin regret    the same inside each of ten bins of equal count by parameters, averaged: a budget's regret
    tau sd        spread of τ over seeds (initial weights and batch)
    ms            milliseconds an architecture, measured on a few, for that score alone

Every figure is the mean over seeds of single-seed figures; `tau avg` ranks by the score averaged over all seeds. Equal
scores are put in order of parameters, so that no score gains by ties; candidates without a score come last. The
teacher is a ResNet-56 trained on the CIFAR subset, made once and kept in the cache folder. No constant of the default
score is fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import kendalltau, rankdata, spearmanr

from archsearch.data import Dataset
from archsearch.hardware import Ruler
from archsearch.proxies import proxies
from archsearch.proxies.score import DEFAULT, reads
from archsearch.request import Architecture, SearchSpec
from archsearch.search import Bench, evaluate, prepare
from archsearch.spaces import Space, spaces
from benchmarks import encoders
from benchmarks.cifar import load_cifar, load_teacher_for
from benchmarks.tables import TABLES, Table

Floats = npt.NDArray[np.float64]
# The default's voters, and what costs nothing beside them; others need passes of their own.
QUICK = (*DEFAULT, "params", "macs", "depth", "hm", "minrank")
SCORES: Mapping[str, Mapping[str, float]] = {
    "archsearch": DEFAULT,
    **{f"without {voter}": {name: 1.0 for name in DEFAULT if name != voter} for voter in DEFAULT},
    "prototype D": {"params": 1, "kd_psi": 1, "effective_rank": 1, "trainability": 1},
}


@dataclass(frozen=True)
class Scored:
    """All networks of a table under all seeds: for each score an array seeds × networks, −∞ where undefined."""

    values: dict[str, Floats]
    params: Floats
    ms: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--tables", default=",".join((*TABLES, *encoders.FILES)), help="comma-separated; default: all of %(default)s"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=SearchSpec().batch_size)
    parser.add_argument("--proxies", default=",".join(QUICK), help="comma-separated, or `all`; default: %(default)s")
    parser.add_argument("--full", action="store_true", help="all 15,625 cells of NAS-Bench-201 instead of 1,000")
    parser.add_argument("--first", type=int, help="only so many networks of each table, to try things out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scores", type=Path, help="also keep every single score, as npz, for plots")
    arguments = parser.parse_args()
    unknown = set(arguments.tables.split(",")) - {*TABLES, *encoders.FILES}
    if unknown:
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join((*TABLES, *encoders.FILES))}")
    names = proxies.names() if arguments.proxies == "all" else arguments.proxies.split(",")
    report: dict[str, Any] = {"tables": {}}
    known: dict[str, Scored] = {}
    kept: dict[str, Floats] = {}
    for name in arguments.tables.split(","):
        if name in encoders.FILES:
            if not (arguments.data / encoders.FILES[name]).is_file():
                sys.exit(f"skipped: {arguments.data / encoders.FILES[name]} is not there")
            report["tables"][name] = encoders.judge_table(arguments.data, name)
            _keep(arguments.json, report)
            continue
        table = TABLES[name]
        if not (arguments.data / table.file).is_file():
            sys.exit(f"skipped: {arguments.data / table.file} is not there")
        architectures, accuracy_N = table.read(arguments.data, full=arguments.full)
        architectures, accuracy_N = architectures[: arguments.first], accuracy_N[: arguments.first]
        if table.networks not in known:
            known[table.networks] = score_all(table, architectures, names, arguments)
        scored = known[table.networks]
        rows = {score: figures(values, accuracy_N, scored) for score, values in scored.values.items()}
        report["tables"][name] = {"n": len(accuracy_N), "note": table.note, "rows": rows}
        show(name, table, len(accuracy_N), rows)
        kept |= {f"{name}/accuracy": accuracy_N, f"{name}/params": scored.params}
        kept |= {f"{name}/{score}": values.mean(0) for score, values in scored.values.items()}
        # Long runs are worth keeping as they go.
        _keep(arguments.json, report)
        if arguments.scores:
            np.savez(arguments.scores, **kept)


def _keep(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n")


def score_all(
    table: Table, architectures: Sequence[Architecture], names: Sequence[str], arguments: argparse.Namespace
) -> Scored:
    """Every score and proxy of every network, under every seed."""
    space = spaces.get(table.space)
    dataset = _resized(load_cifar(arguments.data, table.classes), table.side)
    teacher = load_teacher_for(arguments.data, table.classes)
    teacher = replace(teacher, input_hw=(32, 32))  # it keeps seeing CIFAR's own pixels
    weights = {**dict.fromkeys(names, 1.0), **dict.fromkeys(DEFAULT, 1.0)}
    weights |= {voter: 1.0 for score in SCORES.values() for voter in score if arguments.proxies == "all"}
    scores = {name: votes for name, votes in SCORES.items() if votes.keys() <= weights.keys()}
    runs: dict[str, list[list[float]]] = {name: [] for name in (*scores, *sorted(weights))}
    for seed in range(arguments.seeds):
        spec = SearchSpec(
            seed=seed, batch_size=arguments.batch_size, precision=arguments.precision, score=weights, space=table.space
        )
        bench = prepare(spec, teacher, dataset, device=arguments.device)
        for values in runs.values():
            values.append([])
        label = f"{table.networks}, seed {seed + 1} of {arguments.seeds}"
        for architecture in track(architectures, label, console=Console(stderr=True), disable=not sys.stderr.isatty()):
            measured = measure_one(spec, space, bench, architecture, weights)
            for name in weights:
                runs[name][-1].append(measured[name])
            for name, votes in scores.items():
                runs[name][-1].append(sum(weight * measured[voter] for voter, weight in votes.items()))
    # What a score costs is decided by what is measured for it.
    asked = {name: reads(scores.get(name, {name: 1.0})) for name in runs}
    voters = {read: scores.get(name, {name: 1.0}) for name, read in asked.items()}
    cost = {r: time_one(table, teacher, dataset, architectures, votes, arguments) for r, votes in voters.items()}
    ms = {name: cost[read] for name, read in asked.items()}
    params_N = np.array([space.cost(architecture, dataset.task).params for architecture in architectures], float)
    return Scored({name: np.array(values) for name, values in runs.items()}, params_N, ms)


def measure_one(
    spec: SearchSpec, space: Space, bench: Bench, architecture: Architecture, weights: Mapping[str, float]
) -> dict[str, float]:
    """Each voter's nats; −∞ where a proxy is undefined for this network."""
    found = dict.fromkeys(weights, -np.inf)
    trial = evaluate(spec, space, bench, architecture, Ruler(bench.task))
    if trial.score is not None:
        return {**found, **trial.votes}
    # Some voter is undefined, but others may not be: what they say is taken one by one.
    for name in weights:
        single = evaluate(spec.model_copy(update={"score": {name: 1.0}}), space, bench, architecture, Ruler(bench.task))
        if single.score is not None:
            found[name] = single.score
    return found


def time_one(
    table: Table,
    teacher: Any,
    dataset: Dataset,
    architectures: Sequence[Architecture],
    votes: Mapping[str, float],
    arguments: argparse.Namespace,
) -> float:
    """Median milliseconds of one score on three networks, from building to the number."""
    spec = SearchSpec(
        batch_size=arguments.batch_size, precision=arguments.precision, score=dict(votes), space=table.space
    )
    bench = prepare(spec, teacher, dataset, device=arguments.device)
    space, times = spaces.get(table.space), []
    for i in np.linspace(0, len(architectures) - 1, 3).round().astype(int):
        started = time.perf_counter()
        evaluate(spec, space, bench, architectures[i], Ruler(bench.task))
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


def figures(values_SN: Floats, accuracy_N: Floats, scored: Scored) -> dict[str, float]:
    """What the table's row says, from one score under all seeds."""
    name = next(name for name, values in scored.values.items() if values is values_SN)
    single = [judge(untied(values_N, scored.params), accuracy_N, scored.params) for values_N in values_SN]
    means = {key: float(np.mean([row[key] for row in single])) for key in single[0]}
    averaged = judge(untied(values_SN.mean(0), scored.params), accuracy_N, scored.params)
    spread = {"tau_sd": float(np.std([row["tau"] for row in single])), "tau_avg": averaged["tau"]}
    return {**means, **spread, "rho_avg": averaged["rho"], "ms": scored.ms[name]}


def untied(values_N: Floats, params_N: Floats) -> Floats:
    """Ranks, equal values in order of parameters; networks equal in both stay tied."""
    pairs = np.stack([values_N, params_N], 1)
    _, ranks_N = np.unique(pairs, axis=0, return_inverse=True)
    return ranks_N.reshape(-1).astype(float)


def judge(ranks_N: Floats, accuracy_N: Floats, params_N: Floats) -> dict[str, float]:
    best = accuracy_N >= np.quantile(accuracy_N, 0.8)
    bins = np.array_split(np.argsort(params_N, kind="stable"), min(10, len(params_N)))
    return {
        "tau": float(kendalltau(ranks_N, accuracy_N).statistic),
        "rho": float(spearmanr(ranks_N, accuracy_N).statistic),
        "partial_rho": partial(ranks_N, accuracy_N, params_N),
        "tau_top20": float(kendalltau(ranks_N[best], accuracy_N[best]).statistic),
        "regret": regret(ranks_N, accuracy_N),
        "bin_regret": float(np.mean([regret(ranks_N[rows], accuracy_N[rows]) for rows in bins])),
    }


def regret(ranks_N: Floats, accuracy_N: Floats) -> float:
    """Points between the best and the pick; networks that share the first place share the pick."""
    return float(accuracy_N.max() - accuracy_N[ranks_N == ranks_N.max()].mean())


def partial(values_N: Floats, accuracy_N: Floats, given_N: Floats) -> float:
    """Spearman's ρ of what is left of both when the rank of `given` is taken out; 0 where nothing is left."""
    ranks = [rankdata(x) for x in (values_N, accuracy_N, given_N)]
    xy, xz, yz = (np.corrcoef(ranks[a], ranks[b])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2)))
    left = (1 - xz**2) * (1 - yz**2)
    return float((xy - xz * yz) / np.sqrt(left)) if left > 1e-9 else 0.0


def show(name: str, table: Table, count: int, rows: Mapping[str, Mapping[str, float]]) -> None:
    columns = ("tau", "tau_sd", "tau_avg", "rho", "partial_rho", "tau_top20", "regret", "bin_regret", "ms")
    titles = ("tau", "tau sd", "tau avg", "rho", "rho|params", "top20", "regret", "bin regret", "ms")
    print(f"\n{name}: {count} networks of {table.space}" + (f" ({table.note})" if table.note else ""))
    print(f"{'score':<24}" + "".join(f"{title:>11}" for title in titles))
    for score, row in sorted(rows.items(), key=lambda item: -item[1]["tau"]):
        print(f"{score:<24}" + "".join(f"{row[c]:>11.0f}" if c == "ms" else f"{row[c]:>11.3f}" for c in columns))
    sys.stdout.flush()


def _resized(dataset: Dataset, side: int) -> Dataset:
    """The same data set for students that see larger pixels; its images are resized batch by batch."""
    if (dataset.task.height, dataset.task.width) == (side, side):
        return dataset
    from torch.nn.functional import interpolate

    # Only the scoring batch is ever looked at, and it is drawn from few hundred images: the first of every class.
    rows = np.concatenate([np.flatnonzero(dataset.train.y_N == c)[:8] for c in range(dataset.task.classes)])
    x_BCHW = torch.from_numpy(dataset.train.x_NHWC[rows]).permute(0, 3, 1, 2).float()
    x_BCHW = interpolate(x_BCHW, size=(side, side), mode="bilinear", align_corners=False)
    x_NHWC = x_BCHW.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    train = replace(dataset.train, x_NHWC=x_NHWC, y_N=dataset.train.y_N[rows])
    return replace(dataset, train=train, task=replace(dataset.task, height=side, width=side))


if __name__ == "__main__":
    main()
